"""The cache of answers: one generation for all identical requests under way, and its answer for later ones."""

import asyncio

from msgspec import Struct

from gateway.cache.key import CachePolicy
from gateway.cache.replay import CacheStatus, Replay
from gateway.cache.single_flight import Flight, StartAnswer
from gateway.cache.store import AnswerStore, KeptAnswer, read, write
from gateway.flow.tasks import end_all


class Counts(Struct):
    """What became of the requests so far, and how many answers were kept."""

    hits: int = 0
    coalesced: int = 0
    misses: int = 0
    bypassed: int = 0
    stores: int = 0


class Cache:
    """Finds or makes the answer of each key. The generations are its own: a client that leaves disturbs no other."""

    def __init__(self, store: AnswerStore) -> None:
        self.counts = Counts()
        self._store = store
        self._flights: dict[bytes, Flight] = {}
        self._tasks: dict[Flight, asyncio.Task[None]] = {}

    @property
    def size(self) -> int:
        """The memory that is used, in bytes."""
        return self._store.size

    @property
    def evictions(self) -> int:
        """The answers that went since others came."""
        return self._store.evictions

    @property
    def flights(self) -> int:
        """The generations under way."""
        return len(self._tasks)

    async def stream(self, key: bytes, generate: StartAnswer, policy: CachePolicy = CachePolicy.ANY) -> Replay:
        """Follow the generation of `key` that is under way, or begin one; close what is returned.

        A request that wants neither to read nor to keep (`NO_STORE`) has no business here.
        """
        flight = self._flights.get(key)
        if flight is not None and policy is CachePolicy.ANY:
            self.counts.coalesced += 1
            return self._follow(CacheStatus.COALESCED, key, flight)
        return await self._begin(key, generate, policy)

    async def foresee(self, key: bytes, policy: CachePolicy = CachePolicy.ANY) -> CacheStatus:
        """Say how `stream` would come to an answer now; nothing is made, counted or kept longer for it."""
        if policy is not CachePolicy.ANY:
            return CacheStatus.MISS
        if key in self._flights:
            return CacheStatus.COALESCED
        return CacheStatus.HIT if await self._store.has(key) else CacheStatus.MISS

    async def aclose(self) -> None:
        """End what is under way, and let go of the store."""
        await end_all(list(self._tasks.values()))
        await self._store.aclose()

    async def _begin(self, key: bytes, generate: StartAnswer, policy: CachePolicy) -> Replay:
        """Begin a flight. To look into the store is a part of it, so that all callers meanwhile wait for one look."""
        flight = Flight()
        self._flights.setdefault(key, flight)
        self._tasks[flight] = asyncio.create_task(self._make(key, flight, generate, policy))
        replay = self._follow(CacheStatus.MISS, key, flight)
        try:
            await flight.settled()
        except BaseException:
            await replay.aclose()
            raise
        if flight.is_kept:
            replay.status = CacheStatus.HIT
            self.counts.hits += 1
        else:
            self.counts.misses += 1
        return replay

    def _follow(self, status: CacheStatus, key: bytes, flight: Flight) -> Replay:
        flight.followers += 1

        async def leave() -> None:
            flight.followers -= 1
            replay.owed = flight if flight.charge() else None
            if not flight.followers and not flight.is_told:
                await self._end(key, flight)

        replay = Replay(status, flight, leave)
        return replay

    async def _make(self, key: bytes, flight: Flight, generate: StartAnswer, policy: CachePolicy) -> None:
        async def find() -> KeptAnswer | None:
            kept = await self._store.get(key) if policy is CachePolicy.ANY else None
            return None if kept is None else read(kept)

        try:
            await flight.fly(find, generate)
            is_to_keep = not (flight.is_kept or flight.error is not None or flight.work.is_another)
            answer = write(flight.log, flight.work.trace) if is_to_keep else None
            # Until it is kept, it is still to be had here.
            if answer is not None and await self._store.put(key, answer):
                self.counts.stores += 1
        finally:
            self._forget(key, flight)

    async def _end(self, key: bytes, flight: Flight) -> None:
        """End a flight without followers; the next request begins another."""
        task = self._tasks.get(flight)
        self._forget(key, flight)
        if task is not None:
            await end_all([task])

    def _forget(self, key: bytes, flight: Flight) -> None:
        self._tasks.pop(flight, None)
        if self._flights.get(key) is flight:
            del self._flights[key]
