"""A breaker leaves alone what keeps failing, and tries it again with one probe."""

import pytest

from gateway.flow.breaker import Breaker
from tests.support.clock import Clock


@pytest.fixture
def clock():
    return Clock()


def failed(breaker, times):
    for _ in range(times):
        breaker.attempt().fail()


def test_five_failures_in_a_row_open_it_for_five_to_ten_seconds(clock):
    breaker = Breaker(clock)
    failed(breaker, 4)
    assert breaker.state == "closed"
    failed(breaker, 1)
    assert breaker.state == "open"
    assert breaker.attempt() is None
    assert 5 <= breaker.wait <= 10


def test_half_of_the_last_twenty_open_it_too(clock):
    breaker = Breaker(clock)
    for _ in range(9):
        breaker.attempt().succeed()
        breaker.attempt().fail()
    breaker.attempt().succeed()
    assert breaker.state == "closed"
    breaker.attempt().fail()
    assert breaker.state == "open"


def test_successes_in_between_keep_it_closed(clock):
    breaker = Breaker(clock)
    for _ in range(50):
        failed(breaker, 2)
        for _ in range(3):
            breaker.attempt().succeed()
    assert breaker.state == "closed"


def test_half_open_lets_one_probe_through(clock):
    breaker = Breaker(clock)
    failed(breaker, 5)
    clock.advance(breaker.wait)
    assert breaker.state == "half_open"
    assert breaker.wait == 0
    probe = breaker.attempt()
    assert breaker.attempt() is None
    probe.succeed()
    assert breaker.state == "closed"
    failed(breaker, 4)
    assert breaker.state == "closed"


def test_a_probe_that_fails_opens_it_again(clock):
    breaker = Breaker(clock)
    failed(breaker, 5)
    clock.advance(breaker.wait)
    breaker.attempt().fail()
    assert breaker.state == "open"
    assert breaker.wait >= 5


def test_a_probe_that_is_given_up_makes_room_for_another(clock):
    breaker = Breaker(clock)
    failed(breaker, 5)
    clock.advance(breaker.wait)
    breaker.attempt().give_up()
    assert breaker.state == "half_open"
    assert breaker.attempt() is not None


def test_late_news_of_earlier_attempts_is_no_news(clock):
    breaker = Breaker(clock)
    early = [breaker.attempt() for _ in range(4)]
    failed(breaker, 5)
    clock.advance(breaker.wait)
    probe = breaker.attempt()
    early[0].fail()
    early[1].succeed()
    assert breaker.attempt() is None
    probe.succeed()
    early[2].fail()
    assert breaker.state == "closed"


def test_only_the_first_word_about_an_attempt_counts(clock):
    breaker = Breaker(clock, failures=2)
    attempt = breaker.attempt()
    attempt.succeed()
    attempt.fail()
    attempt.give_up()
    breaker.attempt().fail()
    assert breaker.state == "closed"


def test_it_stays_open_longer_each_time_that_its_one_attempt_fails(clock):
    breaker = Breaker(clock, longest=60.0)
    failed(breaker, 5)
    for least, most in ((5, 10), (10, 20), (20, 40), (30, 60), (30, 60)):
        assert least <= breaker.wait <= most
        clock.advance(breaker.wait)
        breaker.attempt().fail()
    clock.advance(breaker.wait)
    breaker.attempt().succeed()
    failed(breaker, 5)
    assert 5 <= breaker.wait <= 10


def test_a_look_at_the_other_side_ends_the_wait_or_lengthens_it(clock):
    breaker = Breaker(clock)
    breaker.leave_alone(100)
    assert breaker.state == "closed"  # it is asked, and that says more
    failed(breaker, 5)
    breaker.leave_alone(100)
    assert breaker.wait == 100
    breaker.leave_alone(1)
    assert breaker.wait == 100
    breaker.try_now()
    assert breaker.state == "half_open"
    assert breaker.is_free
    probe = breaker.attempt()
    assert not breaker.is_free
    breaker.leave_alone(100)
    assert breaker.state == "half_open"  # while one is under way
    probe.succeed()
    assert breaker.is_free


def test_an_attempt_that_has_begun_counts_at_its_end_but_for_the_one_of_an_open_breaker(clock):
    breaker = Breaker(clock)
    for _ in range(5):
        attempt = breaker.attempt()
        attempt.begin()
        attempt.fail()
    assert breaker.state == "open"
    clock.advance(breaker.wait)
    breaker.attempt().begin()
    assert breaker.state == "closed"
