"""What is made of the samples."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.bench.plan import LoadLevel
from gateway.cli.bench.report import Effort, Spread, quantile, sum_up
from gateway.cli.bench.sample import Sample

EFFORT = Effort(client_cpu=0.5, peak=2)


def answer(**changes):
    usual = {"due": 10.0, "sent": 10.0, "first": 11.0, "last": 14.0, "ended": 14.0, "gaps": [1.0, 2.0], "frames": 3}
    return Sample(**(usual | {"prompt_tokens": 100, "output_tokens": 4, "cached_tokens": 25} | changes))


def report(*samples, wanted=4):
    return sum_up(LoadLevel(clients=2), samples, wanted, EFFORT)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_quantiles_are_numpys(values, share):
    assert math.isclose(quantile(sorted(values), share), np.quantile(values, share), rel_tol=1e-9, abs_tol=1e-9)


def test_a_spread_of_nothing_is_nothing():
    assert Spread.of([]) is None
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0, 3.0)


def test_throughput_is_over_the_time_from_the_first_request_to_the_last_answer():
    found = report(answer(), answer(due=12.0, sent=12.0, ended=18.0))
    assert found.seconds == 8.0
    assert found.tokens_per_second == 1.0
    assert found.requests_per_second == 0.25
    assert found.client_share == 0.5 / 8


def test_a_token_after_the_first_takes_the_rest_of_the_time():
    assert report(answer()).tpot.p50 == 1.0
    assert report(answer(output_tokens=1)).tpot is None


def test_latencies_count_from_when_a_request_was_due():
    found = report(answer(due=7.0))
    assert found.ttft.p50 == 4.0
    assert found.e2e.p50 == 7.0
    assert found.delay.p50 == 3.0


def test_pauses_of_all_answers_are_taken_together():
    assert report(answer(), answer(gaps=[9.0])).itl.mean == 4.0


def test_what_failed_is_counted_by_its_error_and_nowhere_else():
    found = report(answer(), answer(error="timeout"), answer(error="timeout"), answer(error="503 draining"))
    assert (found.requests, found.failed) == (1, 3)
    assert found.errors == {"timeout": 2, "503 draining": 1}
    assert (found.output_tokens, found.prompt_tokens, found.frames) == (4, 100, 3)


def test_the_cached_share_is_of_tokens():
    assert report(answer(), answer(cached_tokens=75)).cached_share == 0.5


def test_a_server_that_says_nothing_of_its_cache_has_no_cached_share():
    assert report(answer(cached_tokens=None)).cached_share is None


def test_answers_without_usage_are_said():
    found = report(answer(), answer(output_tokens=None, prompt_tokens=None))
    assert (found.uncounted, found.output_tokens) == (1, 4)
    assert found.frames == 6


def test_answers_of_another_length_are_said():
    assert report(answer(), answer(output_tokens=3)).inexact == 1


def test_an_answer_without_text_has_no_first_token():
    assert report(answer(first=None, last=None, gaps=[])).ttft is None


def test_no_samples_make_an_empty_report():
    found = report()
    assert (found.requests, found.seconds, found.tokens_per_second, found.client_share) == (0, 0.0, 0.0, 0.0)
    assert found.ttft is None


@pytest.mark.parametrize("name", ["tokens_per_second", "cached_share", "client_cpu", "ttft", "errors", "frames"])
def test_json_has_the_derived_figures_too(name):
    assert name in report(answer()).as_json()
