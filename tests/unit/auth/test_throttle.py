"""Guessing from one address is slow, and costs no memory without end."""

from gateway.auth import FailureThrottle
from tests.support.clock import Clock


def test_ten_mistakes_a_minute_are_free():
    clock = Clock()
    tries = FailureThrottle(clock)
    assert [tries.fail("a") for _ in range(10)] == [0] * 10
    assert 5.9 < tries.fail("a") <= 6
    assert tries.fail("b") == 0
    clock.advance(6)
    assert tries.fail("a") == 0


def test_the_addresses_longest_silent_are_forgotten():
    tries = FailureThrottle(Clock())
    for number in range(5_000):
        tries.fail(str(number))
        tries.fail("always")
    assert len(tries._buckets) == 4_096
    assert "always" in tries._buckets
    assert "0" not in tries._buckets
