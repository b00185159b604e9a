"""A step of loading, as the records of a log."""

import logging
from itertools import count

import pytest

from gateway.engine import loading_step, progress
from gateway.engine.progress import step_of

LOG = logging.getLogger("engine")


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by a second whenever it is read."""
    monkeypatch.setattr(progress.time, "monotonic", count().__next__)


def told(caplog):
    return [(record.getMessage(), *step_of(record)) for record in caplog.records]


def test_a_step_says_its_beginning_how_far_it_is_and_how_long_it_took(clock, caplog):
    with caplog.at_level(logging.INFO, "engine"), loading_step(LOG, "copying 9 %", "once, about 3 s") as tell:
        tell(0.25)
    assert told(caplog) == [
        ("copying 9 % (once, about 3 s)", "copying 9 %", 0.0),
        ("copying 9 %: 25 %", "copying 9 %", 0.25),
        ("copying 9 %: done after 3.0 s", "copying 9 %", 1.0),
    ]


def test_a_step_that_fails_has_ended_too(clock, caplog):
    with (
        caplog.at_level(logging.INFO, "engine"),
        pytest.raises(ZeroDivisionError),
        loading_step(LOG, "copying"),
    ):
        raise ZeroDivisionError
    assert told(caplog)[1:] == [("copying: given up after 1.0 s", "copying", 1.0)]


def test_progress_never_goes_back_and_is_not_the_end(clock, caplog):
    with caplog.at_level(logging.INFO, "engine"), loading_step(LOG, "copying") as tell:
        for share in (0.5, 0.25, 7.0):
            tell(share)
        shares = [step_of(record)[1] for record in caplog.records]
    assert shares == [0.0, 0.5, pytest.approx(1.0, abs=0.01)]
    assert shares[-1] < 1


def test_progress_is_told_seldom(monkeypatch, caplog):
    monkeypatch.setattr(progress.time, "monotonic", lambda: 0.0)
    with caplog.at_level(logging.INFO, "engine"), loading_step(LOG, "copying") as tell:
        for share in range(100):
            tell(share / 100)
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    "fields",
    [{}, {"step": "x"}, {"progress": 0.5}, {"step": 3, "progress": 0.5}, {"step": "x", "progress": float("nan")}],
)
def test_a_record_without_both_fields_is_of_no_step(fields):
    assert step_of(logging.makeLogRecord(fields)) is None


def test_progress_is_kept_between_beginning_and_end():
    assert step_of(logging.makeLogRecord({"step": "x", "progress": 9})) == ("x", 1.0)
