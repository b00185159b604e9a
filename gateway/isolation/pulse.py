"""What the heartbeats of a process say: whether it gets on, and what it is at while it does not."""

import asyncio

from gateway.engine import Health
from gateway.isolation.wire import Heartbeat

# A process that hangs and lives tells so many heartbeats after each other that nothing moved, the last one so many
# seconds ago at most.
_STILL = 3
_LATELY = 5.0


class Pulse:
    """Takes heartbeats; `progress` stands still only while there are none, or calls and nothing that moves.

    `step` is the last step of the load that was told, and the share of it that is done.
    """

    def __init__(self) -> None:
        self.progress = 0
        self.health = Health.READY
        self.step: tuple[str, float] | None = None
        self._moved = (0, 0, 0)
        self._computed: frozenset[int] | None = None
        self._still = 0
        self._heard = 0.0

    def take(self, beat: Heartbeat) -> None:
        """Take the next heartbeat."""
        # A call that comes or goes is no progress: a queue grows before an engine that hangs, too.
        moved = (beat.replies, beat.status.cache_used, beat.status.steps)
        has_moved = beat.calls == 0 or moved != self._moved
        self.progress += has_moved
        self._moved, self.health, self._heard = moved, beat.status.health, _now()
        if has_moved or self._computed is None or beat.computed is None:
            self._still = 0
            self._computed = None if beat.computed is None else frozenset(beat.computed)
        else:
            self._still += 1
            self._computed &= frozenset(beat.computed)

    @property
    def stuck(self) -> frozenset[int] | None:
        """The calls that were computed at every heartbeat since anything moved.

        `None` where the engine does not say, or its process was silent lately.
        """
        return self._computed if self._still >= _STILL and _now() - self._heard < _LATELY else None


def _now() -> float:
    return asyncio.get_running_loop().time()
