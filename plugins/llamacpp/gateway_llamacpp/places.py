"""The places of a `llama-server`: which prompt each remembers, and of whom."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager


class SeatedPlace:
    """One slot of the server; `ids` are the prompt that it read last, for a caller with `salt`; `used` is in tokens."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.salt: str | None = None
        self.ids: tuple[int, ...] = ()
        self.used = 0


class PlaceTable:
    """Gives each answer a place of its own: the free one that remembers most of its prompt, of the same caller.

    The server would compare with the prompts of all, which lets a caller find out by the time what another has asked.
    """

    def __init__(self, count: int) -> None:
        self._free = [SeatedPlace(number) for number in range(count)]
        self._room = asyncio.Semaphore(count)
        self._taken: set[SeatedPlace] = set()
        self.waiting = 0

    @property
    def running(self) -> int:
        """How many are taken."""
        return len(self._taken)

    @property
    def used(self) -> int:
        """How many tokens the taken ones hold."""
        return sum(place.used for place in self._taken)

    @asynccontextmanager
    async def take(self, salt: str, ids: tuple[int, ...]) -> AsyncGenerator[tuple[SeatedPlace, bool], None]:
        """Hold a place, and tell whether what it remembers may be used."""
        self.waiting += 1
        try:
            await self._room.acquire()
        finally:
            self.waiting -= 1
        place = self._choose(salt, ids)
        may_reuse = place.salt == salt
        place.salt, place.ids, place.used = salt, ids, len(ids)
        self._taken.add(place)
        try:
            yield place, may_reuse
        finally:
            self._taken.remove(place)
            self._free.append(place)
            self._room.release()

    def _choose(self, salt: str, ids: tuple[int, ...]) -> SeatedPlace:
        """Take the place out of the free ones, of which the first was free longest."""
        own = [place for place in self._free if place.salt == salt]
        best = max(own, key=lambda place: common(place.ids, ids), default=None)
        # One that remembers nothing of this prompt is as good as another, whoever it was for.
        if best is None or not common(best.ids, ids):
            best = next((place for place in self._free if place.salt is None), self._free[0])
        self._free.remove(best)
        return best


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """Count the items that two sequences begin with alike, by halving."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
