"""How tasks are started and ended, so that nothing of theirs is left behind."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import TypeVar

from loguru import logger

from gateway.engine import EngineError

T = TypeVar("T")


class Tasks:
    """The tasks that one object has started: referred to while they run, as a loop forgets them, and ended together."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run `work` beside the caller."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def wait(self) -> None:
        """Wait until those that run now have ended, however they end."""
        if self._running:
            await asyncio.wait(self._running)

    async def end(self) -> None:
        """Cancel those that run, and wait until they have cleaned up."""
        await end_all(list(self._running))


def is_cancelled() -> bool:
    """Tell whether the current task was cancelled: a `CancelledError` may come from elsewhere too."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def see_through(work: Coroutine[None, None, T]) -> T:
    """Run what must not be broken off to its end, also while the waiting is cancelled: that is raised afterwards."""
    task = asyncio.get_running_loop().create_task(work)
    await _settle([task])
    return task.result()


async def end_all(tasks: Iterable[asyncio.Task[T]], expected: tuple[type[Exception], ...] = (EngineError,)) -> None:
    """Cancel tasks once and wait for their ends, also while the waiting is cancelled: that is raised afterwards.

    An error of their clean-up has no reader but the log, unless it is of a kind that is `expected`.
    """
    ending = [task for task in tasks if task.cancel()]
    try:
        await _settle(ending)
    finally:
        for task in ending:
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, expected):
                logger.opt(exception=error).error("a task failed while it was ended")


async def _settle(tasks: Sequence[asyncio.Task[T]]) -> None:
    again: asyncio.CancelledError | None = None
    while left := {task for task in tasks if not task.done()}:
        try:
            await asyncio.wait(left)
        except asyncio.CancelledError as cancelled:
            again = cancelled
    if again is not None:
        try:
            raise again
        finally:
            del again  # its traceback holds this frame
