"""Watches the worker by its heartbeat, as an engine's process is watched, and has a worker that hangs replaced."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from loguru import logger

_TICKS = 20
# A server imports the application before it has a worker; on a busy machine that takes its time.
_START_SECONDS = 60.0


class Beating(Protocol):
    """The side that is watched: `beats` counts the heartbeats of all workers so far."""

    beats: int

    @property
    def has_worker(self) -> bool: ...  # noqa: D102 - as `EngineProcesses` says
    async def end_worker(self) -> None: ...  # noqa: D102


class WorkerWatch:
    """Ends a worker that is silent for `hang()` seconds, and a server that has had no worker for a minute.

    Whatever is ended is started again by its parent: a worker by the server, the server by the supervisor.
    """

    def __init__(self, workers: Beating, hang: Callable[[], float], end_server: Callable[[], None]) -> None:
        self._workers = workers
        self._hang = hang
        self._end_server = end_server

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._wait_for_silence()
            if self._workers.has_worker:
                await self._workers.end_worker()
                logger.bind(event="worker_hang").error(
                    "the worker was silent for {:g} s, and is replaced", self._hang()
                )
            else:
                logger.bind(event="server_hang").error("the HTTP server has had no worker for long, and is replaced")
                self._end_server()

    async def _wait_for_silence(self) -> None:
        # Ticks are counted, not seconds: while this process stands still too, that says nothing of the other.
        seen, silent = self._workers.beats, 0.0
        while True:
            hang = self._hang()
            if silent >= (hang if self._workers.has_worker else max(hang, _START_SECONDS)):
                return
            await asyncio.sleep(hang / _TICKS)
            seen, silent = (seen, silent + hang / _TICKS) if self._workers.beats == seen else (self._workers.beats, 0.0)
