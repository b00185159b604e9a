"""Generations to share: streams that a test lets go on."""

import asyncio
from contextlib import aclosing

import pytest

from gateway.cache import Cache, CachePolicy, MemoryAnswerStore
from gateway.engine import (
    Completion,
    Delta,
    Finished,
    FinishReason,
    GenerateRequest,
    ModelCard,
    Sampling,
    Started,
    Usage,
)
from tests.support.clock import Clock
from tests.support.store import StoreServer

KEY = b"k" * 32
FINISHED = Finished(FinishReason.STOP, Usage(3, 2))
ANSWER = (Started(3, queue_seconds=1.0), Delta("a"), Delta("b"), FINISHED)
CARD = ModelCard(name="m", context_window=9, capabilities=frozenset(), fingerprint="f")


def asked(prompt="hi", **fields):
    sampling = fields.pop("sampling", Sampling(temperature=0.0))
    return GenerateRequest(id="1", model="m", prompt=Completion(prompt), sampling=sampling, **fields)


def words(events):
    return "".join(event.text for event in events if isinstance(event, Delta))


class Source:
    """Generates `answer`: an exception in it is raised, a callable awaited; counts what was begun and is open."""

    def __init__(self, *answer):
        self.answer = answer or ANSWER
        self.begun = self.open = 0

    async def __call__(self, work):
        work.is_begun = True
        self.begun += 1
        self.open += 1
        try:
            for event in self.answer:
                await asyncio.sleep(0)
                if isinstance(event, BaseException):
                    raise event
                if callable(event):
                    await event()
                else:
                    yield event
        finally:
            await asyncio.sleep(0)
            self.open -= 1


async def read(cache, source, policy=CachePolicy.ANY, key=KEY):
    """Read one answer whole; return how it was come by, and its events."""
    async with aclosing(await cache.stream(key, source, policy)) as replay:
        return replay.status, [event async for event in replay]


async def turns(count=50):
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return MemoryAnswerStore(1_000_000, 60, clock)


@pytest.fixture
async def cache(store):
    cache = Cache(store)
    yield cache
    assert cache.flights == 0, "a generation was left behind"
    await cache.aclose()


@pytest.fixture(scope="session")
def store_server():
    server = StoreServer()
    yield server
    server.close()
