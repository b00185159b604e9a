"""Replicas share one count; whatever becomes of its server, requests do not wait for it."""

import asyncio
import signal
import time
import uuid

import pytest

from gateway.engine import Unavailable
from gateway.limits import Limiter, Quota, RequestsExceeded, StoreDown, TooManyConcurrent
from gateway.limits.redis_store import RedisLimitStore
from tests.support.service import free_port
from tests.support.store import StoreServer

ONE = Quota(concurrent=1, tokens_per_minute=1_000, tokens_per_day=1_000)


async def use(limiter, quota, tokens=1, used=0):
    async with limiter.hold("a", quota, tokens) as allowance:
        allowance.used = used


@pytest.fixture
def own_server():
    """A server that a test may stop."""
    server = StoreServer()
    yield server
    server.close()


@pytest.fixture
async def make_store():
    stores = []

    def make(url, **terms):
        stores.append(RedisLimitStore(url, **terms))
        return stores[-1]

    yield make
    for store in stores:
        await store.aclose()


async def test_two_replicas_count_together(store_server, make_store):
    prefix = uuid.uuid4().hex
    one, two = (Limiter(make_store(store_server.url, seconds=5, prefix=prefix)) for _ in range(2))
    quota = Quota(requests_per_minute=4)
    for _ in range(2):
        await use(one, quota)
        await use(two, quota)
    for limiter in (one, two):
        with pytest.raises(RequestsExceeded):
            await use(limiter, quota)


async def test_many_at_once_get_exactly_what_there_is(shared):
    limiter = Limiter(shared)
    results = await asyncio.gather(
        *[use(limiter, Quota(requests_per_minute=20)) for _ in range(60)], return_exceptions=True
    )
    assert sum(result is None for result in results) == 20
    assert sum(isinstance(result, RequestsExceeded) for result in results) == 40


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_a_caller_that_leaves_at_any_step_leaves_nothing_reserved(shared, turns):
    limiter = Limiter(shared)
    task = asyncio.create_task(use(limiter, ONE, tokens=1_000))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await shared._tasks.wait()
    await asyncio.sleep(0)
    if shared._settling is not None:
        await asyncio.wait({shared._settling})
    await use(limiter, ONE, tokens=1_000)
    await use(limiter, ONE, tokens=1_000)


async def test_a_grant_of_a_process_that_died_is_given_up(store_server, make_store):
    prefix = uuid.uuid4().hex
    dead = Limiter(make_store(store_server.url, seconds=5, prefix=prefix, lease=0.5))
    alive = Limiter(make_store(store_server.url, seconds=5, prefix=prefix))
    two = Quota(concurrent=2)
    await dead.hold("a", two, 1).__aenter__()
    async with alive.hold("a", two, 1):
        with pytest.raises(TooManyConcurrent):
            await use(alive, two)
        await asyncio.sleep(0.6)
        await use(alive, two)


async def test_nobody_there_is_down_and_the_local_share_goes_on(make_store):
    limiter = Limiter(make_store(f"redis://127.0.0.1:{free_port()}/0"), replicas=2)
    quota = Quota(requests_per_minute=4)
    await use(limiter, quota)
    assert limiter.is_degraded
    await use(limiter, quota)
    with pytest.raises(RequestsExceeded):
        await use(limiter, quota)


async def test_or_nobody_is_let_in_where_that_is_wanted(make_store):
    limiter = Limiter(make_store(f"redis://127.0.0.1:{free_port()}/0"), when_down="refuse")
    for _ in range(8):
        with pytest.raises(Unavailable):
            await use(limiter, ONE)


async def test_a_server_that_hangs_costs_its_time_limit_a_few_times_and_then_nothing(own_server, make_store):
    store = make_store(own_server.url)
    limiter = Limiter(store)
    await use(limiter, Quota(requests_per_minute=100))
    own_server.signal(signal.SIGSTOP)
    clock = time.perf_counter()
    for _ in range(10):
        await use(limiter, Quota(requests_per_minute=100))
    assert time.perf_counter() - clock < 20
    assert limiter.is_degraded
    clock = time.perf_counter()
    for _ in range(20):
        await use(limiter, Quota(requests_per_minute=100))
    assert time.perf_counter() - clock < 20 * 0.001 * 20
    own_server.signal(signal.SIGCONT)


async def test_what_was_owed_while_it_was_down_is_settled_when_it_is_back(own_server, make_store):
    limiter = Limiter(store := make_store(own_server.url, seconds=2, prefix="owed"))
    async with limiter.hold("a", ONE, 1_000):
        store._seconds = 0.02
        own_server.signal(signal.SIGSTOP)
    await asyncio.wait({store._settling})
    assert len(store._owed) == 1
    own_server.signal(signal.SIGCONT)
    store._seconds = 2
    with pytest.raises(TooManyConcurrent):
        await use(limiter, ONE, tokens=1_000)
    await use(limiter, ONE, tokens=1_000)


async def test_what_arrived_late_is_given_back_whole(own_server, make_store):
    """The server answers nobody in time, and does all the same what it was asked."""
    limiter = Limiter(store := make_store(own_server.url, seconds=2), replicas=2)
    await use(limiter, ONE)
    await asyncio.wait({store._settling})
    store._seconds = 0.05
    own_server.signal(signal.SIGSTOP)
    await use(limiter, ONE, tokens=1_000)
    own_server.signal(signal.SIGCONT)
    store._seconds = 2
    with pytest.raises(TooManyConcurrent):
        await use(limiter, ONE, tokens=1_000)
    await use(limiter, ONE, tokens=1_000)


async def test_a_store_that_is_back_is_used_again(own_server, make_store):
    limiter = Limiter(make_store(own_server.url, seconds=2))
    limiter._breaker._seconds = (0.01, 0.01)
    own_server.stop()
    for _ in range(6):
        await use(limiter, Quota(requests_per_minute=100))
    assert limiter.is_degraded
    own_server.start()
    await asyncio.sleep(0.02)
    await use(limiter, Quota(requests_per_minute=100))
    assert not limiter.is_degraded


@pytest.mark.parametrize("answer", [b"", b"*1\r\n$1\r\nx\r\n", b":7\r\n", b"HTTP/1.1 400 Bad\r\n\r\n", b"-ERR no\r\n"])
async def test_wrong_answers_count_as_none(make_store, answer):
    async def talk(reader, writer):
        while await reader.read(65_536):
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", port := free_port()):
        store = make_store(f"redis://127.0.0.1:{port}/0")
        limiter = Limiter(store)
        await use(limiter, Quota(requests_per_minute=100))
        assert limiter.is_degraded
        await store.aclose()


async def test_closing_settles_what_is_still_owed(store_server, make_store):
    prefix = uuid.uuid4().hex
    store = make_store(store_server.url, seconds=5, prefix=prefix)
    await use(Limiter(store), ONE)
    await store.aclose()
    await use(Limiter(make_store(store_server.url, seconds=5, prefix=prefix)), ONE)


async def test_the_limit_of_the_store_itself_is_an_error_of_ours(make_store):
    store = make_store(f"redis://127.0.0.1:{free_port()}/0")
    allowance = Limiter(store).hold("a", ONE, 1)
    with pytest.raises(StoreDown):
        await store.take(allowance._grant, 1)
