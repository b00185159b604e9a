"""The worker under the supervisor: it drains on SIGTERM, and reports when its engines are loaded, or none can be."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from types import FrameType

from loguru import logger

from gateway.engine import Health
from gateway.hosting.hosting import Hosting
from gateway.supervisor.client import DrainWork, ReloadWork, SupervisorClient
from gateway.telemetry import logs


@asynccontextmanager
async def supervised(
    supervisor: SupervisorClient | None, hosting: Hosting, reload: ReloadWork, drain: DrainWork
) -> AsyncGenerator[None, None]:
    """Follow the orders of the supervisor while the block runs; enter it before the engines that it starts.

    Under another server, or in a test, there is no supervisor, and no signal handler is installed.
    """
    if supervisor is not None:
        _drain_on_signal(hosting)
    async with supervisor.listen(reload, hosting.announce, drain) if supervisor else nullcontext():
        settling = asyncio.create_task(_settle(hosting, supervisor))
        try:
            yield
        finally:
            settling.cancel()


def _drain_on_signal(hosting: Hosting) -> None:
    """Drain on SIGTERM; granian's own handler still runs, through its wake-up file descriptor."""
    loop = asyncio.get_running_loop()

    def drain(_: int, __: FrameType | None) -> None:
        loop.call_soon_threadsafe(hosting.drain)

    signal.signal(signal.SIGTERM, drain)


async def _settle(hosting: Hosting, supervisor: SupervisorClient | None) -> None:
    """Wait until every engine was tried, and give up if none can ever be loaded."""
    await hosting.settled.wait()
    logs.capture()  # a library may have set up its own log when the engine imported it
    if supervisor is None:
        return
    if all(hosted.health is Health.FAILED for hosted in hosting.engines):
        supervisor.give_up({hosted.name: hosted.detail for hosted in hosting.engines})
        return
    await logger.complete()  # what the supervisor prints comes below the steps of loading
    supervisor.settle()
