"""Turns of the event loop for large pieces of work, so far apart that most of its time is left for all else."""

import asyncio

# Seconds that work of no turn puts off the next one at most.
_MOST_SPENT = 1.0


class Turns:
    """Lets callers go on one after the other; each has the loop to itself for `1 / rate` seconds a unit of its work.

    `rate` is in units a second: with twice the time that a unit takes half of the loop's time is left to others.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._next = 0.0

    async def wait(self, units: float) -> None:
        """Wait for this caller's turn, for a moment at least; a caller that leaves before its turn has had it."""
        now = asyncio.get_running_loop().time()
        begin = max(now, self._next)
        self._next = begin + units / self._rate
        await asyncio.sleep(begin - now)

    def spend(self, units: float) -> None:
        """Put the next turn off for work that waits for none: a second at most, whatever its amount."""
        now = asyncio.get_running_loop().time()
        spent = max(now, self._next) + units / self._rate
        self._next = max(self._next, min(spent, now + _MOST_SPENT))
