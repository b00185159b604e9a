"""Levels: how many requests, and when."""

from itertools import pairwise

import pytest

from gateway.cli.bench.plan import LoadLevel


def test_a_client_sends_four_requests_where_nothing_else_ends_the_level():
    assert LoadLevel(clients=8).limit == 32
    assert LoadLevel(clients=8, requests=5).limit == 5
    assert LoadLevel(clients=8, seconds=1.0).limit is None
    assert LoadLevel(clients=8, requests=5, seconds=1.0).limit == 5


def test_a_level_is_named_for_its_load():
    assert LoadLevel(clients=8).name == "8"
    assert LoadLevel(rate=2.5).name == "2.5/s"


def test_constant_arrivals_are_evenly_spread():
    assert list(LoadLevel(rate=4.0, arrivals="constant", requests=4).schedule(0)) == [0, 0.25, 0.5, 0.75]


def test_arrivals_end_with_the_time():
    assert list(LoadLevel(rate=2.0, arrivals="constant", seconds=1.5).schedule(0)) == [0, 0.5, 1.0]


def test_arrivals_end_with_whatever_comes_first():
    assert len(list(LoadLevel(rate=2.0, arrivals="constant", seconds=1.5, requests=2).schedule(0))) == 2
    assert len(list(LoadLevel(rate=2.0, arrivals="constant", seconds=1.5, requests=9).schedule(0))) == 3


def test_arrivals_without_an_end_last_half_a_minute():
    times = list(LoadLevel(rate=10.0).schedule(1))
    assert 25 < times[-1] < 30


def test_poisson_arrivals_have_the_rate_and_no_rhythm():
    times = list(LoadLevel(rate=10.0, requests=4_000).schedule(3))
    gaps = [after - before for before, after in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(0.1, rel=0.1)
    # An exponential distribution's deviation is its mean; a constant one's is nothing.
    assert deviation == pytest.approx(mean, rel=0.1)


def test_the_seed_makes_the_same_arrivals_again():
    level = LoadLevel(rate=10.0, requests=20)
    assert list(level.schedule(1)) == list(level.schedule(1)) != list(level.schedule(2))


def test_clients_have_no_schedule():
    with pytest.raises(ValueError, match="only a rate"):
        next(LoadLevel(clients=1).schedule(0))
