"""Heartbeats tell whether a process gets on, and which calls it computes while it does not."""

import pytest

from gateway.engine import Health, Status
from gateway.isolation import pulse
from gateway.isolation.pulse import Pulse
from gateway.isolation.wire import Heartbeat


def beat(computed=(), replies=0, calls=1, cache=0):
    return Heartbeat(calls, replies, Status(health=Health.READY, cache_used=cache), computed)


async def test_what_was_computed_at_every_heartbeat_is_what_the_engine_is_stuck_at():
    own = Pulse()
    for computed in ((1, 2), (1, 2, 3), (1, 3), (1, 3)):
        own.take(beat(computed))
    assert own.stuck == {1}
    assert own.progress == 0


@pytest.mark.parametrize("moved", [{"replies": 1}, {"cache": 1}, {"calls": 0}])
async def test_what_moves_is_progress_and_begins_anew(moved):
    own = Pulse()
    for _ in range(4):
        own.take(beat((1,)))
    own.take(beat((2,), **moved))
    assert own.progress == 1
    assert own.stuck is None
    for _ in range(3):
        own.take(beat((2,), **moved | {"calls": 1}))
    assert own.stuck == {2}


async def test_an_engine_that_does_not_say_is_stuck_at_nothing_known():
    own = Pulse()
    for _ in range(5):
        own.take(beat(None))
    assert own.stuck is None


async def test_a_process_that_has_fallen_silent_says_nothing(monkeypatch):
    own, now = Pulse(), 0.0
    monkeypatch.setattr(pulse, "_now", lambda: now)
    for _ in range(4):
        own.take(beat((1,)))
    assert own.stuck == {1}
    now = 5.0
    assert own.stuck is None
