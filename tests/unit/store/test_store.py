"""The store beside the event loop: what fails is told, and holds up nothing."""

import asyncio
import sqlite3
import threading
import time

import pytest
from loguru import logger

from gateway.store import Database, Entry, Store, StoreSettings, StoreUnavailable
from gateway.store import store as module


def entry(name, body=b"{}"):
    return Entry(kind="response", id=name, created=1.0, body=body)


@pytest.fixture
def events():
    found = []
    sink = logger.add(lambda message: found.append(message.record["extra"].get("event")), level="INFO")
    yield found
    logger.remove(sink)


async def test_an_owner_finds_its_own_entries_only():
    async with Store(StoreSettings()) as store:
        assert await store.of("a").put(entry("r1"))
        assert await store.of("a").get("response", "r1") == entry("r1")
        assert await store.of("b").get("response", "r1") is None
        assert (store.size, store.entries) == (entry("r1").size, 1)
        assert await store.of("a").delete("response", "r1")
        assert (store.size, store.entries) == (0, 0)


async def test_the_database_is_worked_at_on_one_thread_that_is_not_the_loops():
    async with Store(StoreSettings()) as store:
        threads = {await store.run(lambda _: threading.get_ident()) for _ in range(5)}
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_without_bytes_nothing_is_stored():
    async with Store(StoreSettings(max_bytes=0)) as store:
        assert not await store.of("a").put(entry("r1"))
        assert not store.is_degraded


async def test_evictions_are_counted_also_after_the_file_was_opened_again(tmp_path):
    settings = StoreSettings(file=str(tmp_path / "store.db"), max_bytes=1_000)
    async with Store(settings) as store:
        for number in range(5):
            await store.of("a").put(entry(f"r{number}", bytes(400)))
        with pytest.raises(StoreUnavailable):
            await store.run(_break)
        await store.of("a").put(entry("r9", bytes(400)))
        assert store.evicted == 5


def _break(_):
    raise sqlite3.DatabaseError("database disk image is malformed")


async def test_a_failure_is_told_once_and_so_is_its_end(tmp_path, events):
    file = tmp_path / "folder" / "store.db"
    async with Store(StoreSettings(file=str(file))) as store:
        assert await store.of("a").put(entry("r1"))
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.run(_break)
        assert store.is_degraded
        assert store.failures == 2
        assert await store.of("a").put(entry("r2"))
        assert not store.is_degraded
        assert await store.of("a").get("response", "r1") == entry("r1")
    assert events == ["store_failed", "store_restored"]


@pytest.mark.parametrize("names", [("store.db",), ("store.db", "store.db-wal", "store.db-shm")])
async def test_a_file_that_is_removed_under_way_is_made_anew(tmp_path, events, names):
    settings = StoreSettings(file=str(tmp_path / "store.db"))
    async with Store(settings) as store:
        assert await store.of("a").put(entry("r1"))
        for name in names:
            (tmp_path / name).unlink()
        assert await store.of("a").get("response", "r1") is None
        assert await store.of("a").put(entry("r2"))
        assert (store.entries, store.is_degraded) == (1, False)
    assert events == ["store_file_lost"]
    async with Store(settings) as again:
        assert await again.of("a").get("response", "r2") == entry("r2")


async def test_a_file_that_cannot_be_opened_stores_nothing_until_it_can(tmp_path):
    blocked = tmp_path / "store.db"
    blocked.mkdir()
    async with Store(StoreSettings(file=str(blocked))) as store:
        assert not await store.of("a").put(entry("r1"))
        with pytest.raises(StoreUnavailable, match="try again"):
            await store.of("a").get("response", "r1")
        blocked.rmdir()
        assert await store.of("a").put(entry("r1"))


async def test_memory_is_not_lost_by_a_failure():
    async with Store(StoreSettings()) as store:
        await store.of("a").put(entry("r1"))
        with pytest.raises(StoreUnavailable):
            await store.run(_break)
        assert await store.of("a").get("response", "r1") == entry("r1")


async def test_a_disk_that_does_not_answer_is_given_up_and_what_waits_is_bounded(monkeypatch):
    go = threading.Event()
    async with Store(StoreSettings()) as store:
        await store.run(lambda _: None)  # it is opened, however long that takes
        monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.01)
        monkeypatch.setattr(module, "_MOST_WAITING", 3)
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await store.run(lambda _: go.wait(10))
        began = time.monotonic()
        assert not await store.of("a").put(entry("r1"))
        assert time.monotonic() - began < 5
        assert store.failures == 4
        go.set()
        await asyncio.sleep(0.05)
        assert await store.of("a").put(entry("r1"))


async def test_what_was_begun_is_done_though_its_client_has_left():
    go = threading.Event()
    async with Store(StoreSettings()) as store:
        holding = asyncio.create_task(store.run(lambda _: go.wait(10)))
        putting = asyncio.create_task(store.of("a").put(entry("r1")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        putting.cancel()
        go.set()
        await holding
        assert await store.of("a").get("response", "r1") == entry("r1")


async def test_old_entries_are_removed_without_any_request(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SWEEP_SECONDS", 0.01)
    now = [1_000.0]
    settings = StoreSettings(file=str(tmp_path / "store.db"), ttl_seconds=10)
    async with Store(settings, lambda: now[0]) as store:
        await store.of("a").put(entry("r1"))
        now[0] += 11
        async with asyncio.timeout(10):
            while store.entries:  # noqa: ASYNC110 - the store tells of nothing
                await asyncio.sleep(0.01)


async def test_the_file_is_closed_and_whole_when_the_store_is_left(tmp_path):
    path = tmp_path / "store.db"
    async with Store(StoreSettings(file=str(path))) as store:
        await store.of("a").put(entry("r1"))
    assert [file.name for file in tmp_path.iterdir()] == ["store.db"]
    again = Database(path, 10_000, 100)
    assert again.get("a", "response", "r1") == entry("r1")
    again.close()
