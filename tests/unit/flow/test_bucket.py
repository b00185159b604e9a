"""A bucket gives no more than its rate allows, and knows when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.flow.bucket import TokenBucket
from tests.support.clock import Clock


def test_a_full_bucket_gives_all_it_holds_and_no_more():
    bucket = TokenBucket(10, 1, Clock())
    assert bucket.reserve(7) == 7
    assert bucket.reserve(4) is None
    assert bucket.reserve(3) == 3
    assert bucket.level == 0


def test_time_refills_it_up_to_the_brim():
    clock = Clock()
    bucket = TokenBucket(10, 2, clock)
    bucket.reserve(10)
    clock.advance(3)
    assert bucket.level == pytest.approx(6)
    clock.advance(300)
    assert bucket.level == 10


def test_a_request_larger_than_the_bucket_gets_all_of_it_and_owes_the_rest():
    clock = Clock()
    bucket = TokenBucket(10, 1, clock)
    assert bucket.reserve(50) == 10
    bucket.settle(10, 35)
    assert bucket.level == -25
    assert bucket.wait(1) == pytest.approx(26)
    assert bucket.until_full() == pytest.approx(35)


def test_what_was_not_used_comes_back_but_never_beyond_the_brim():
    clock = Clock()
    bucket = TokenBucket(10, 1, clock)
    bucket.reserve(8)
    bucket.settle(8, 2)
    assert bucket.level == 8
    clock.advance(60)
    bucket.settle(8, 0)
    assert bucket.level == 10


def test_a_changed_capacity_forgets_nothing():
    bucket = TokenBucket(10, 1, Clock())
    bucket.reserve(9)
    bucket.capacity = 100
    assert bucket.level == 91
    bucket.capacity = 5
    assert bucket.level == -4


amounts = st.floats(0.5, 200, allow_nan=False)


@given(st.floats(1, 1e6), st.floats(0.1, 1e6), st.lists(st.tuples(amounts, st.floats(0, 60)), max_size=40))
def test_the_wait_that_it_tells_is_enough_and_no_less_would_do(capacity, rate, asked):
    clock = Clock()
    bucket = TokenBucket(capacity, rate, clock)
    for amount, pause in asked:
        wait = bucket.wait(amount)
        if wait > 1e-3:
            clock.advance(wait * 0.99)
            assert bucket.reserve(amount) is None
            clock.advance(wait * 0.01)
        else:
            clock.advance(wait)
        assert bucket.reserve(amount) is not None
        clock.advance(pause)


steps = st.tuples(st.floats(0.5, 30), st.floats(0, 1), st.floats(0, 5))


@given(st.floats(1, 100), st.floats(0.1, 100), st.lists(steps, max_size=60))
def test_never_more_is_used_than_the_brim_and_the_rate_allow(capacity, rate, tried):
    clock = Clock(0.0)
    bucket = TokenBucket(capacity, rate, clock)
    used = 0.0
    for amount, share, pause in tried:
        clock.advance(pause)
        reserved = bucket.reserve(amount)
        if reserved is not None:
            spent = reserved * share
            bucket.settle(reserved, spent)
            used += spent
        assert used <= (capacity + rate * clock.now) * (1 + 1e-6)
