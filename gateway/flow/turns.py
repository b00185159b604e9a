"""Turns of the event loop for large pieces of work, so far apart that most of its time is left for all else."""

import asyncio

# Seconds that work of no turn puts off the next one at most, and how many times the length of that turn.
_MOST_SPENT = 1.0
_MOST_LENGTHS = 4.0


class Turns:
    """Lets callers go on one after the other; each has the loop to itself for `1 / rate` seconds a unit of its work.

    `rate` is in units a second: with twice the time that a unit takes half of the loop's time is left to others.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._line = asyncio.Lock()
        self._ends = 0.0  # the last turn
        self._next = 0.0  # behind that, and behind what was spent

    async def wait(self, units: float) -> None:
        """Wait in line for this caller's turn, for a moment at least; a caller that leaves has none."""
        time, seconds = asyncio.get_running_loop().time, units / self._rate
        async with self._line:
            latest = max(self._ends, time()) + _MOST_LENGTHS * seconds
            await asyncio.sleep(0)
            while (rest := min(self._next, latest) - time()) > 0:  # noqa: ASYNC110 - spent meanwhile
                await asyncio.sleep(rest)
            self._ends = self._next = time() + seconds

    def spend(self, units: float) -> None:
        """Put the next turn off for work that waits for none, also one that is waited for."""
        now = asyncio.get_running_loop().time()
        spent = max(self._next, now) + units / self._rate
        self._next = max(self._next, min(spent, now + _MOST_SPENT))
