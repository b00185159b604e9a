"""Clients that ask without a pause, and what became of their requests in a span of time."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from msgspec import Struct

from tests.chaos.client import Client, Result, client
from tests.chaos.row import percentile

_WORDS = 20


class Span(Struct, frozen=True):
    """What became of the requests that ended in a span: how many, by code, and how long it took until all was well."""

    name: str
    seconds: float
    whole: int
    failed: Counter[str]
    cut: int
    p99: float
    recovered: float

    @property
    def goodput(self) -> float:
        """Whole answers a second."""
        return self.whole / self.seconds


class Load:
    """The clients, and all results so far."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self._over = asyncio.Event()
        self._numbers = itertools.count()

    def span(self, name: str, began: float, until: float | None = None) -> Span:
        """Sum up the requests that ended since `began`."""
        until = until or time.monotonic()
        found = [result for result in self.results if began <= result.ended <= until]
        bad = [result for result in found if result.end != "whole"]
        return Span(
            name,
            until - began,
            len(found) - len(bad),
            Counter(result.code or result.end for result in bad if result.end != "truncated"),
            sum(result.end == "truncated" for result in bad),
            percentile([result.seconds for result in found], 0.99) if found else float("nan"),
            max((result.ended - began for result in bad), default=0.0),
        )

    async def keep_asking(self, asker: Client, *, stream: bool) -> None:
        """Ask until all is over; each prompt is a new one, so that no answer is kept already."""
        while not self._over.is_set():
            number = next(self._numbers)
            prompt = " ".join(f"word{number}-{word}" for word in range(_WORDS))
            result = await asker.ask(prompt, stream=stream)
            self.results.append(result)
            if result.end != "whole":
                await asyncio.sleep(0.05)  # as a client that was told to come again

    def stop(self) -> None:
        """Have the clients end after the request that they are at."""
        self._over.set()


@asynccontextmanager
async def under_load(url: str, key: str, clients: int) -> AsyncGenerator[Load, None]:
    """Have so many clients ask while the block runs, every other one for streams."""
    load = Load()
    async with client(url, key) as asker:
        asking = [asyncio.create_task(load.keep_asking(asker, stream=number % 2 == 0)) for number in range(clients)]
        try:
            yield load
        finally:
            load.stop()
            await asyncio.gather(*asking)
