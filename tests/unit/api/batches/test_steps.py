"""The steps of a batch's life: taken in order, and once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.api.batches import steps
from gateway.api.batches.schema import to_object, window_seconds
from gateway.api.http.problems import Problem
from gateway.store import BatchFault, BatchRecord

FAULT = BatchFault("invalid_json", "no JSON", 1)


def batch(**fields):
    facts = {"id": "b", "endpoint": "/v1/completions", "input_file_id": "f", "completion_window": "1h"}
    return BatchRecord(**facts, **{"created_at": 1, "expires_at": 3_601} | fields)


def test_a_batch_that_is_answered_is_completed_with_its_files():
    begun = steps.begin(batch(), 3, "m", 2)
    assert (begun.status, begun.total, begun.model, begun.in_progress_at) == ("in_progress", 3, "m", 2)
    ended = steps.end(structs.replace(begun, completed=2, failed=1), "completed", 3)
    assert (ended.status, ended.finalizing_at) == ("finalizing", 3)
    assert ended.output_file_id != ended.error_file_id
    assert to_object(ended).output_file_id is None  # it is not there yet
    over = steps.over(ended, 4)
    assert (over.status, over.completed_at, over.is_over) == ("completed", 4, True)
    assert to_object(over).output_file_id == ended.output_file_id


@pytest.mark.parametrize(
    ("completed", "failed", "files"), [(1, 0, (True, False)), (0, 1, (False, True)), (0, 0, (0, 0))]
)
def test_only_files_with_lines_are_written(completed, failed, files):
    ended = steps.end(batch(status="in_progress", total=1, completed=completed, failed=failed), "completed", 3)
    assert (ended.output_file_id is not None, ended.error_file_id is not None) == files


def test_what_expired_counts_as_failed_and_is_in_the_file_of_the_errors():
    ended = steps.end(batch(status="in_progress", total=5, completed=2), "expired", 3)
    assert ended.error_file_id is not None
    over = steps.over(ended, 4)
    assert (over.status, over.expired_at, over.failed) == ("expired", 4, 3)


def test_a_batch_is_cancelled_with_what_there_is():
    told = steps.cancel(batch(status="in_progress", total=5, completed=2), 3)
    assert (told.status, told.cancelling_at) == ("cancelling", 3)
    assert steps.cancel(told, 9) is told
    ended = steps.end(told, "completed", 4)
    assert (ended.status, ended.ending) == ("cancelling", "cancelled")
    over = steps.over(ended, 5)
    assert (over.status, over.cancelled_at, over.failed) == ("cancelled", 5, 0)
    assert steps.cancel(over, 9) is over


@pytest.mark.parametrize("status", ["finalizing", "completed", "failed", "expired"])
def test_a_batch_that_has_ended_cannot_be_cancelled(status):
    with pytest.raises(Problem, match=status):
        steps.cancel(batch(status=status), 3)


def test_wrong_lines_fail_a_batch_before_it_begins_and_never_after():
    failed = steps.fail(batch(), [FAULT], 2)
    assert (failed.status, failed.failed_at, failed.errors) == ("failed", 2, (FAULT,))
    assert to_object(failed).errors.data[0].line == 1
    begun = steps.begin(batch(), 1, None, 2)
    assert steps.fail(begun, [FAULT], 3) is begun


STEPS = {
    "begin": lambda found, now: steps.begin(found, 9, None, now),
    "fail": lambda found, now: steps.fail(found, [FAULT], now),
    "end": lambda found, now: steps.end(found, "completed", now),
    "expire": lambda found, now: steps.end(found, "expired", now),
    "over": steps.over,
}


@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=12))
def test_a_step_that_is_taken_again_changes_nothing(names):
    """As after a kill -9: whatever was done before is done again."""
    found = batch()
    for now, name in enumerate(names):
        found = STEPS[name](found, now)
        assert STEPS[name](found, now + 100) == found
    over = [
        name for name in ("completed", "failed", "expired", "cancelled") if getattr(found, f"{name}_at") is not None
    ]
    assert over == ([found.status] if found.is_over else [])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86_400), ("90s", 90), ("5m", 300), ("30d", 2_592_000), ("31d", None), ("0h", None), ("h", None)],
)
def test_a_window_is_a_number_and_a_unit(text, seconds):
    assert window_seconds(text) == seconds
