"""The worker's life under our own main process: drains on SIGTERM, and ends when no engine can ever load."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from types import FrameType

from gateway.engine import Health
from gateway.hosting.hosting import Hosting
from gateway.supervisor.client import DrainWork, ReloadWork, SupervisorClient
from gateway.telemetry import logs


@asynccontextmanager
async def supervised(
    supervisor: SupervisorClient | None, hosting: Hosting, reload: ReloadWork, drain: DrainWork
) -> AsyncGenerator[None, None]:
    """Do what the supervisor says while the block runs; enter it before the engines, whose processes it starts.

    Under another server, or in a test, there is none, and signals are not ours to take.
    """
    if supervisor is not None:
        _drain_on_signal(hosting)
    async with supervisor.listen(reload, drain) if supervisor else nullcontext():
        settling = asyncio.create_task(_settle(hosting, supervisor))
        try:
            yield
        finally:
            settling.cancel()


def _drain_on_signal(hosting: Hosting) -> None:
    """Begin to drain on the signal; granian's own handling of it goes on, through its wake-up descriptor."""
    loop = asyncio.get_running_loop()

    def drain(_: int, __: FrameType | None) -> None:
        loop.call_soon_threadsafe(hosting.drain)

    signal.signal(signal.SIGTERM, drain)


async def _settle(hosting: Hosting, supervisor: SupervisorClient | None) -> None:
    """When all engines were tried: end the service if none could be loaded, for nothing will mend that."""
    await hosting.settled.wait()
    logs.capture()  # a library may have set up its own log when the engine imported it
    if supervisor is not None and all(hosted.health is Health.FAILED for hosted in hosting.engines):
        supervisor.give_up({hosted.name: hosted.detail for hosted in hosting.engines})
