"""How tasks are ended, so that nothing of theirs is left behind."""

import asyncio
from collections.abc import Iterable

from loguru import logger

from gateway.engine import EngineError


def is_cancelled() -> bool:
    """Tell whether somebody cancelled the task that asks: a `CancelledError` may come from elsewhere too."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def end_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks once and wait for their ends, also while the waiting is cancelled: that is raised afterwards.

    An error of their clean-up has no reader but the log.
    """
    ending = [task for task in tasks if task.cancel()]
    again: asyncio.CancelledError | None = None
    while left := {task for task in ending if not task.done()}:
        try:
            await asyncio.wait(left)
        except asyncio.CancelledError as cancelled:
            again = cancelled
    for task in ending:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, EngineError):
            logger.opt(exception=error).error("the clean-up of a request failed")
    if again is not None:
        raise again
