"""Stores to try: one in memory with a clock of ours, and a real server's."""

import uuid

import pytest

from gateway.limits import Limiter, MemoryLimitStore
from gateway.limits.redis_store import RedisLimitStore
from tests.support.clock import Clock
from tests.support.store import StoreServer


@pytest.fixture(scope="session")
def store_server():
    server = StoreServer()
    yield server
    server.close()


@pytest.fixture
async def shared(store_server):
    """A shared store that is patient with a busy machine, and whose names nobody else uses."""
    store = RedisLimitStore(store_server.url, seconds=5, prefix=uuid.uuid4().hex)
    yield store
    await store.aclose()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "shared"])
async def limiter(request, clock):
    """Every rule that needs no clock holds in both stores."""
    if request.param == "memory":
        yield Limiter(MemoryLimitStore(clock), clock=clock)
    else:
        server = request.getfixturevalue("store_server")
        store = RedisLimitStore(server.url, seconds=5, prefix=uuid.uuid4().hex)
        yield Limiter(store)
        await store.aclose()


@pytest.fixture
def local(clock):
    return Limiter(clock=clock)
