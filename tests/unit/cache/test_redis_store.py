"""Replicas share their answers; whatever becomes of the server, requests do not wait for it."""

import asyncio
import signal
import time
import uuid

import pytest

from gateway.cache import Cache, CacheStatus
from gateway.cache.redis_store import RedisAnswerStore
from tests.support.service import free_port
from tests.support.store import StoreServer
from tests.unit.cache.conftest import ANSWER, KEY, Source, read, turns


@pytest.fixture
async def make_store():
    stores = []

    def make(url, ttl=60, **terms):
        stores.append(RedisAnswerStore(url, ttl, **terms))
        return stores[-1]

    yield make
    for store in stores:
        await store.aclose()


@pytest.fixture
def own_server():
    """A server that a test may stop."""
    server = StoreServer()
    yield server
    server.close()


async def read_when_put(cache, source):
    told = await read(cache, source)
    await asyncio.gather(*cache._tasks.values())
    return told


async def test_what_one_replica_made_another_tells(store_server, make_store):
    prefix = uuid.uuid4().hex
    one, two = (Cache(make_store(store_server.url, seconds=5, prefix=prefix)) for _ in range(2))
    source = Source()
    await read_when_put(one, source)
    assert (await read(two, source))[0] is CacheStatus.HIT
    assert (source.begun, one.counts.stores) == (1, 1)


async def test_a_hundred_at_once_run_one_generation(store_server, make_store):
    cache, source = Cache(make_store(store_server.url, seconds=5, prefix=uuid.uuid4().hex)), Source()
    await asyncio.gather(*[read(cache, source) for _ in range(100)])
    assert source.begun == 1
    await turns()
    await cache.aclose()


async def test_an_answer_goes_when_its_time_is_over(store_server, make_store):
    store = make_store(store_server.url, ttl=0.05, seconds=5, prefix=uuid.uuid4().hex)
    assert await store.put(KEY, b"answer")
    until = time.monotonic() + 20
    while await store.get(KEY) is not None:
        assert time.monotonic() < until
        await asyncio.sleep(0.01)


async def test_any_bytes_come_back_as_they_were(store_server, make_store):
    store = make_store(store_server.url, seconds=5, prefix=uuid.uuid4().hex)
    answer = bytes(range(256)) * 64
    assert await store.put(KEY, answer)
    assert await store.get(KEY) == answer
    assert await store.get(b"other") is None
    assert (await store.has(KEY), await store.has(b"other")) == (True, False)


async def test_nobody_there_is_as_if_nothing_were_kept(make_store):
    store = make_store(f"redis://127.0.0.1:{free_port()}/0", seconds=5)
    cache, source = Cache(store), Source()
    for _ in range(3):
        assert await read_when_put(cache, source) == (CacheStatus.MISS, list(ANSWER))
    assert store.is_degraded
    assert source.begun == 3
    assert cache.counts.stores == 0


async def test_a_server_that_hangs_costs_its_time_limit_a_few_times_and_then_nothing(own_server, make_store):
    store = make_store(own_server.url)
    await store.put(KEY, b"answer")
    own_server.signal(signal.SIGSTOP)
    clock = time.perf_counter()
    for _ in range(10):
        assert await store.get(KEY) is None
    assert time.perf_counter() - clock < 20
    assert store.is_degraded
    clock = time.perf_counter()
    for _ in range(20):
        assert not await store.put(KEY, b"answer")
    assert time.perf_counter() - clock < 20 * 0.001 * 20
    own_server.signal(signal.SIGCONT)


async def test_a_server_that_is_back_is_used_again(own_server, make_store, clock):
    store = make_store(own_server.url, seconds=5, clock=clock)
    own_server.stop()
    for _ in range(6):
        await store.put(KEY, b"answer")
    own_server.start()
    assert not await store.put(KEY, b"answer"), "it is left alone for a while"
    clock.advance(11)
    assert await store.put(KEY, b"answer")
    assert not store.is_degraded


async def test_a_reader_who_leaves_while_the_server_is_asked_leaves_nothing(own_server, make_store):
    cache = Cache(make_store(own_server.url, seconds=5))
    own_server.signal(signal.SIGSTOP)
    asking = asyncio.create_task(cache.stream(KEY, Source()))
    await turns()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert cache.flights == 0
    own_server.signal(signal.SIGCONT)
