"""How an engine is, as it says itself within a second."""

import asyncio

from loguru import logger

from gateway.engine import Health, Status
from gateway.hosting.hosted import HostedEngine

_STATUS_SECONDS = 1.0


async def ask_status(hosted: HostedEngine) -> Status:
    """Ask an engine how it is; one that is not loaded is answered for."""
    engine = hosted.engine
    if engine is None or hosted.health is not Health.READY:
        return Status(health=hosted.health, detail=hosted.reason)
    try:
        async with asyncio.timeout(_STATUS_SECONDS):
            status = await engine.status()
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - late, or whatever a plugin may raise
        if not hosted.is_silent and not isinstance(error, TimeoutError):
            logger.opt(exception=error).error("the engine {!r} cannot say how it is", hosted.name)
        if hosted.engine is engine:
            hosted.update(None)
        return Status(health=Health.FAILED, detail="the engine does not say how it is")
    if hosted.engine is engine:
        hosted.update(status)
    return status
