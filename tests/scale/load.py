"""Clients that ask without a pause, and what became of their requests in a span of time."""

import asyncio
import bisect
import itertools
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from msgspec import Struct

from tests.chaos.client import Client, Result, client
from tests.chaos.row import percentile

_WORDS = 6
# Short, so that a window sees many answers end, of a slow model too.
_ANSWER_TOKENS = 8
# All is well while each window has this share of the answers that as many seconds have while nothing is lost. A window
# is so long that chance alone does not make it poor: of 30 answers, half are missing once in a thousand times.
_WELL = 0.5
_WINDOW_ANSWERS = 30.0
_SHORTEST = 1.0
_STEP = 0.1


class Span(Struct, frozen=True):
    """What became of the requests that ended in a span: how many, by code, and how long it took until all was well.

    `recovered` are the seconds until the last poor window was over: 0 where none was, infinite where the last one was.
    """

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

    def span(self, name: str, began: float, usual: float | None = None) -> Span:
        """Sum up the requests that ended since `began`; `usual` whole answers a second are its own where not told."""
        until = time.monotonic()
        found = [result for result in self.results if began <= result.ended <= until]
        bad = [result for result in found if result.end != "whole"]
        whole = sorted(result.ended - began for result in found if result.end == "whole")
        seconds = until - began
        return Span(
            name,
            seconds,
            len(whole),
            Counter(result.code or result.end for result in bad if result.end != "truncated"),
            sum(result.end == "truncated" for result in bad),
            percentile([result.seconds for result in found], 0.99) if found else float("nan"),
            regained(whole, seconds, len(whole) / seconds if usual is None else usual),
        )

    async def keep_asking(self, asker: Client, *, stream: bool) -> None:
        """Ask until all is over; each prompt is a new one, so that no answer is kept already."""
        while not self._over.is_set():
            number = next(self._numbers)
            prompt = " ".join(f"word{number}-{word}" for word in range(_WORDS))
            result = await asker.ask(prompt, stream=stream, most=_ANSWER_TOKENS)
            self.results.append(result)
            if result.end != "whole":
                await asyncio.sleep(0.05)  # as a client that was told to come again

    def stop(self) -> None:
        """Have the clients end after the request that they are at."""
        self._over.set()


def regained(ends: Sequence[float], seconds: float, usual: float) -> float:
    """Return after how many of `seconds` answers came at their `usual` pace and went on to; they ended at `ends`."""
    if not usual:
        return math.inf
    window = max(_SHORTEST, _WINDOW_ANSWERS / usual)
    if window >= seconds:
        return 0.0 if len(ends) >= _WELL * usual * seconds else math.inf
    poor = 0.0
    for number in range(int((seconds - window) / _STEP) + 1):
        start = number * _STEP
        seen = bisect.bisect_right(ends, start + window) - bisect.bisect_left(ends, start)
        if seen < _WELL * usual * window:
            poor = start + window
    return math.inf if poor > seconds - _STEP else poor


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
