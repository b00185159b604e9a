"""The worker's life under our own main process: drains on SIGTERM, and ends when no engine can ever load."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import FrameType

from loguru import logger

from gateway.engine import Health
from gateway.hosting.hosting import Hosting
from gateway.supervisor.client import SupervisorClient
from gateway.telemetry import logs

_STDOUT, _STDERR = 1, 2


@asynccontextmanager
async def drain_on_signal(hosting: Hosting, helm: SupervisorClient | None) -> AsyncGenerator[None, None]:
    """Watch over the service while it runs; under a foreign server, or in a test, signals are not ours to take."""
    if helm is not None:
        _drain_on_signal(hosting)
    ending = asyncio.create_task(_settle(hosting, helm))
    try:
        yield
    finally:
        ending.cancel()


def _drain_on_signal(hosting: Hosting) -> None:
    """Begin to drain on the signal; granian's own handling of it goes on, through its wake-up descriptor."""
    loop = asyncio.get_running_loop()

    def drain(_: int, __: FrameType | None) -> None:
        loop.call_soon_threadsafe(hosting.drain)

    signal.signal(signal.SIGTERM, drain)


async def _settle(hosting: Hosting, helm: SupervisorClient | None) -> None:
    """When all engines were tried: end the service if none could be loaded, for nothing will mend that."""
    await hosting.settled.wait()
    logs.capture()  # a library may have set up its own log when the engine imported it
    if helm is not None and all(seat.health is Health.FAILED for seat in hosting.engines):
        await logger.complete()  # the line below must not come between the two halves of a log line
        print(_reason(hosting), end="", file=sys.stderr, flush=True)
        helm.give_up()


def _reason(hosting: Hosting) -> str:
    """Say why no engine could be loaded; on one screen with the log, which has just said it, only that."""
    if os.path.sameopenfile(_STDOUT, _STDERR):
        return "llm-gateway: no engine could be loaded; the log says why\n"
    return "".join(f"llm-gateway: engine {seat.name!r}: {seat.detail}\n" for seat in hosting.engines)
