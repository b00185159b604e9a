"""Answers in this process's memory: bounded in bytes and in time."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from gateway.cache.store import AnswerStore

# What an entry costs beside its answer: its key, its place in the table and the objects themselves.
ENTRY = 300


class _Kept(NamedTuple):
    answer: bytes
    until: float


class MemoryAnswerStore(AnswerStore):
    """Keeps `max_bytes` of answers for `ttl_seconds` each; the one that was read longest ago goes first."""

    def __init__(self, max_bytes: int, ttl_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()

    async def get(self, key: bytes) -> bytes | None:
        """Find an answer that is young enough."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until <= self._clock():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept.answer

    async def put(self, key: bytes, answer: bytes) -> bool:
        """Keep an answer in the place of others; one that is larger than the whole is not kept."""
        self._drop(key)
        size = len(answer) + ENTRY
        if size > self._max_bytes:
            return False
        while self.size + size > self._max_bytes:
            self._drop(next(iter(self._kept)))
            self.evictions += 1
        self._kept[key] = _Kept(answer, self._clock() + self._ttl_seconds)
        self.size += size
        return True

    async def has(self, key: bytes) -> bool:
        """Tell whether there is an answer that is young enough."""
        kept = self._kept.get(key)
        return kept is not None and kept.until > self._clock()

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.size -= len(kept.answer) + ENTRY
