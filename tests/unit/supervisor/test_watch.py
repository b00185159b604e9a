"""The watch over the worker's heartbeat, at a clock of its own: seconds pass as ticks."""

import asyncio

import pytest

from gateway.supervisor import watch
from gateway.supervisor.watch import WorkerWatch


class Workers:
    """A worker that beats every `every` ticks until tick `dies`; another is there a tick after its end."""

    def __init__(self, every=1, dies=10**9, *, has_worker=True):
        self.beats = 0
        self.ended = []
        self.has_worker = has_worker
        self.now = 0
        self._every, self._dies = every, dies

    async def end_worker(self):
        self.ended.append(self.now)
        self._dies = 10**9

    def tick(self):
        self.now += 1
        self.beats += self.now < self._dies and self.now % self._every == 0 and self.has_worker


@pytest.fixture
def run(monkeypatch):
    """Watch workers for so many ticks, each of a twentieth of `hang`; return when the server was ended."""

    async def run(workers, ticks, hang=2.0):
        servers = []

        async def sleep(seconds):
            assert seconds == hang / 20
            workers.tick()
            if workers.now >= ticks:
                raise asyncio.CancelledError

        monkeypatch.setattr(watch.asyncio, "sleep", sleep)
        with pytest.raises(asyncio.CancelledError):
            await WorkerWatch(workers, lambda: hang, lambda: servers.append(workers.now)).run()
        return servers

    return run


async def test_a_worker_that_beats_is_left_alone(run):
    workers = Workers(every=19)
    assert await run(workers, 10_000) == []
    assert workers.ended == []


async def test_a_worker_that_is_silent_so_long_is_ended_once(run):
    workers = Workers(dies=100)
    assert await run(workers, 10_000) == []
    assert workers.ended == [119]


async def test_a_server_without_a_worker_gets_a_minute_and_is_ended(run):
    workers = Workers(has_worker=False)
    assert await run(workers, 1300) == [600, 1200]
    assert workers.ended == []


async def test_a_longer_hang_is_waited_for_without_a_worker_too(run):
    assert await run(Workers(has_worker=False), 45, hang=120.0) == [20, 40]
