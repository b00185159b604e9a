"""The worker's life: dies with its parent, drains on SIGTERM, and ends when no engine can ever load."""

import asyncio
import ctypes
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import FrameType

from loguru import logger

from gateway.engine import Health
from gateway.hosting import Hosting
from gateway.telemetry import logs

_PR_SET_PDEATHSIG = 1


@asynccontextmanager
async def watch(hosting: Hosting) -> AsyncGenerator[None, None]:
    """Watch over the service while it runs; outside a main thread (in tests) no signals are taken."""
    if threading.current_thread() is threading.main_thread():
        _die_with_parent()
        _drain_on_signal(hosting)
    ending = asyncio.create_task(_settle(hosting))
    try:
        yield
    finally:
        ending.cancel()


def _die_with_parent() -> None:
    """Ask the kernel to end this process with the one that started it, so that no orphan serves on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _drain_on_signal(hosting: Hosting) -> None:
    """Begin to drain on the first signal; granian's own handling of it goes on, through its wake-up descriptor."""
    loop = asyncio.get_running_loop()

    def drain(_: int, __: FrameType | None) -> None:
        loop.call_soon_threadsafe(hosting.drain)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, drain)


async def _settle(hosting: Hosting) -> None:
    """When all engines were tried: end the service if none could be loaded, for nothing will mend that."""
    await hosting.settled.wait()
    logs.capture()  # a library may have set up its own log when the engine imported it
    if all(seat.health is Health.FAILED for seat in hosting.seats):
        logger.bind(event="no_engine").error("no engine could be loaded; the service ends")
        for seat in hosting.seats:
            print(f"llm-gateway: engine {seat.name!r}: {seat.detail}", file=sys.stderr, flush=True)
        os.kill(os.getppid(), signal.SIGUSR1)
