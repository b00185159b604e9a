"""The supervisor's and the worker's end of their socket: processes outlive the worker, words find the next one."""

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager

import psutil
import pytest
from loguru import logger
from msgspec import structs

from gateway.config import Config, EngineSettings
from gateway.isolation import scrubbed_environment
from gateway.isolation.wire import pack
from gateway.supervisor.client import SupervisorClient
from gateway.supervisor.engines import _LINES, _MOST_BYTES, EngineProcesses
from gateway.supervisor.protocol import ProcessesThere, UpToDate
from tests.support.border import spec

PATIENCE = 20


class House:
    """A supervisor's hosts, and workers that come and go."""

    def __init__(self) -> None:
        self.hopeless = {}
        self.refusing = 0
        self.last_request_ends = asyncio.Event()
        self.workers = 0
        self.announced = 0
        self.settled = 0
        self.hosts = EngineProcesses(self.lose_hope, self.greet, self.settle)
        self.spec = spec("scripted", scrubbed_environment(os.environ, is_offline=True))
        self.reloaded = []

    def lose_hope(self, reasons) -> None:
        self.hopeless = reasons

    def greet(self) -> None:
        self.workers += 1

    def settle(self) -> None:
        self.settled += 1

    def announce(self) -> None:
        self.announced += 1

    async def drain(self) -> None:
        self.refusing += 1
        await self.last_request_ends.wait()

    async def reload(self, config) -> None:
        self.reloaded.append(config)

    @asynccontextmanager
    async def worker(self):
        helm = SupervisorClient(self.hosts.path)
        async with helm.listen(self.reload, self.announce, self.drain):
            yield helm


@pytest.fixture
async def house():
    made = House()
    async with made.hosts:
        yield made


async def eventually(holds):
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


async def test_a_worker_says_that_the_engines_of_the_start_were_tried(house):
    async with house.worker() as helm:
        assert house.settled == 0
        helm.settle()
        await eventually(lambda: house.settled == 1)


async def test_the_next_worker_finds_the_process_of_the_last(house):
    async with house.worker() as helm:
        first = await helm.start(house.spec)
    async with house.worker() as helm:
        again = await helm.start(house.spec)
        assert (again.pid, again.path) == (first.pid, first.path)
        assert psutil.pid_exists(again.pid)
        assert await again.kill() == "was ended by SIGKILL"
        assert not psutil.pid_exists(again.pid)
        assert (await helm.start(house.spec)).pid != again.pid


async def test_what_was_prepared_is_what_is_asked_for(house):
    house.hosts.prepare([house.spec])
    async with house.worker() as helm:
        hosted = await helm.start(house.spec)
        assert [process.pid for process in psutil.Process().children()].count(hosted.pid) == 1
        assert len(house.hosts._processes) == 1


async def test_another_recipe_ends_the_process_of_the_old_one(house):
    other = structs.replace(house.spec, environment=house.spec.environment | {"TZ": "UTC-1"})
    async with house.worker() as helm:
        first = await helm.start(house.spec)
        second = await helm.start(other)
        assert first.pid != second.pid
        assert not psutil.pid_exists(first.pid)


async def test_a_process_that_died_alone_is_not_handed_out(house):
    async with house.worker() as helm:
        first = await helm.start(house.spec)
        psutil.Process(first.pid).kill()
        await eventually(lambda: not house.hosts._processes["scripted"][1].is_running)
        assert (await helm.start(house.spec)).pid != first.pid
        assert await first.kill() == "is gone"


async def test_lines_wait_for_a_worker_and_keep_what_is_bound_to_them(house):
    lines = []
    sink = logger.add(
        lambda message: lines.append(message.record), format="{message}", filter="gateway.supervisor.client"
    )
    forwarding = logger.add(house.hosts.say, format="", filter=__name__)
    try:
        logger.bind(event="told", engine="x").warning("before")
        async with house.worker():
            await eventually(lambda: len(lines) == 1)
            assert (lines[0]["message"], lines[0]["level"].name) == ("before", "WARNING")
            assert lines[0]["extra"] == {"event": "told", "engine": "x"}
    finally:
        logger.remove(forwarding)
        logger.remove(sink)


async def test_lines_that_no_worker_takes_in_time_are_counted_and_told(house):
    told = []
    sink = logger.add(
        lambda message: told.append(message.record["message"]), format="", filter="gateway.supervisor.client"
    )
    forwarding = logger.add(house.hosts.say, format="", filter=__name__)
    try:
        for number in range(_LINES + 3):
            logger.warning(number)
        async with house.worker():
            await eventually(lambda: len(told) == _LINES + 1)
            assert told[0] == "3"
            assert told[-1] == "3 lines of the log were lost: no worker took them in time"
            logger.warning("later")
            await eventually(lambda: told[-1] == "later")
    finally:
        logger.remove(forwarding)
        logger.remove(sink)


async def test_a_worker_that_reads_nothing_costs_no_memory(house):
    _, writer = await asyncio.open_unix_connection(house.hosts.path)
    await eventually(lambda: house.hosts._worker is not None)
    forwarding = logger.add(house.hosts.say, format="", filter=__name__)
    try:
        for _ in range(2_000):
            logger.warning("x" * 4_000)
        waiting = house.hosts._worker.transport.get_write_buffer_size()
        assert waiting < 2 * _MOST_BYTES
        assert len(house.hosts._backlog) == _LINES
    finally:
        logger.remove(forwarding)
        writer.close()


async def test_a_reload_reaches_this_worker_and_the_next(house):
    config = Config(engines={"default": EngineSettings(plugin="echo")})
    async with house.worker():
        await eventually(lambda: house.hosts._worker is not None)
        house.hosts.reload(config)
        await eventually(lambda: house.reloaded == [config])
    async with house.worker():
        await eventually(lambda: house.reloaded == [config, config])


async def test_hopelessness_is_heard(house):
    async with house.worker() as helm:
        helm.give_up({"default": "there is no folder"})
        await eventually(lambda: house.hopeless == {"default": "there is no folder"})


async def test_what_is_announced_is_told_to_this_worker_and_to_the_next(house):
    async with house.worker():
        house.hosts.announce()
        await eventually(lambda: house.announced == 1)
    async with house.worker():
        assert (house.announced, house.refusing, house.workers) == (2, 0, 2)


async def test_a_drain_is_over_when_the_workers_last_request_has_ended(house):
    async with house.worker():
        await eventually(lambda: house.hosts._worker is not None)
        draining = asyncio.create_task(house.hosts.drain())
        await eventually(lambda: house.refusing == 1)
        assert not draining.done()
        house.last_request_ends.set()
        async with asyncio.timeout(PATIENCE):
            await draining


async def test_a_worker_that_takes_anothers_place_drains_too(house):
    async with house.worker():
        await eventually(lambda: house.hosts._worker is not None)
        draining = asyncio.create_task(house.hosts.drain())
        await eventually(lambda: house.refusing == 1)
    async with asyncio.timeout(PATIENCE):
        await draining  # what ran has ended with the worker
    async with house.worker():
        assert house.refusing == 2  # before it serves anybody


async def test_without_a_worker_nothing_is_to_be_drained(house):
    async with asyncio.timeout(PATIENCE):
        await house.hosts.drain()


async def test_lines_that_no_worker_has_logged_are_printed_when_the_server_ends(house, capfd):
    forwarding = logger.add(house.hosts.say, format=lambda _: "")
    try:
        logger.error("the reason why no worker comes")
    finally:
        logger.remove(forwarding)
    house.hosts.detach()
    assert capfd.readouterr().err == "llm-gateway: the reason why no worker comes\n"


async def test_nonsense_costs_the_connection_and_nothing_else(house):
    async with AsyncExitStack() as stack:
        for nonsense in (b"\x00\x00\x00\x01x", b"\xff\xff\xff\xff", os.urandom(64)):
            reader, writer = await asyncio.open_unix_connection(house.hosts.path)
            writer.write(nonsense)
            writer.write_eof()
            async with asyncio.timeout(PATIENCE):
                assert await reader.read() == pack(ProcessesThere(())) + pack(UpToDate())  # and no more
            writer.close()
        helm = await stack.enter_async_context(house.worker())
        assert (await helm.start(house.spec)).pid


async def test_leaving_ends_every_process():
    made = House()
    async with made.hosts, made.worker() as helm:
        hosted = await helm.start(made.spec)
    assert not psutil.pid_exists(hosted.pid)
