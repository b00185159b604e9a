"""How requests are offered: by clients that wait for their answers, or at a rate, whatever has been answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice

from gateway.cli.bench.plan import LoadLevel
from gateway.cli.bench.sample import Sample

# Sends the request of a number; the time is when it was due, where it has one.
Ask = Callable[[int, float | None], Awaitable[Sample]]
See = Callable[[Sample], None]


async def offer(level: LoadLevel, ask: Ask, numbers: Iterator[int], see: See, seed: int) -> None:
    """Offer the level's requests, and show each answer when it is there."""
    if level.rate is not None:
        await _open(level, ask, numbers, see, seed)
    else:
        await _closed(level, ask, numbers, see)


async def _closed(level: LoadLevel, ask: Ask, numbers: Iterator[int], see: See) -> None:
    end = None if level.seconds is None else time.monotonic() + level.seconds
    own = islice(numbers, level.limit)

    async def client() -> None:
        while end is None or time.monotonic() < end:
            number = next(own, None)
            if number is None:
                return
            see(await ask(number, None))

    async with asyncio.TaskGroup() as clients:
        for _ in range(level.clients or 1):
            clients.create_task(client())


async def _open(level: LoadLevel, ask: Ask, numbers: Iterator[int], see: See, seed: int) -> None:
    begun = time.monotonic()

    async def one(number: int, due: float) -> None:
        see(await ask(number, due))

    async with asyncio.TaskGroup() as requests:
        for at in level.schedule(seed):
            await asyncio.sleep(begun + at - time.monotonic())
            requests.create_task(one(next(numbers), begun + at))
