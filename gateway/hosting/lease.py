"""One request's hold on an engine, which is loaded for it where need be and stays in memory meanwhile."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterable

from loguru import logger

from gateway.admission import QueueTimeout
from gateway.engine import DeadlineExceeded, Engine, EngineError, Unavailable
from gateway.flow.deadline import Deadline
from gateway.flow.tasks import is_cancelled
from gateway.hosting.hosted import HostedEngine, LoadProgress
from gateway.hosting.loads import Loads

# Seconds between two looks at how far a load is.
_LOOK = 0.25


class Lease:
    """An `async with` object: entering waits for the engine, until the moment `until`, and returns it.

    Without patience an engine that is not loaded is `Unavailable`, and loaded in the background for the requests to
    come. What the engine raises that no program expects, a panic or an exit, becomes an `EngineError`.
    """

    def __init__(
        self,
        loads: Loads,
        hosted: HostedEngine,
        deadline: Deadline,
        until: float | None = None,
        *,
        is_patient: bool = True,
    ) -> None:
        self.has_waited = False
        self._loads = loads
        self._hosted = hosted
        self._deadline = deadline
        self._until = deadline.first if until is None else min(until, deadline.first)
        self._is_patient = is_patient
        self._is_held = False

    async def __aenter__(self) -> Engine:
        await self._hold()
        hosted = self._hosted
        hosted.running.add(self._deadline)
        hosted.idle.clear()
        if hosted.engine is None:  # a plugin's engine that left under its own load
            self._give()
            raise Unavailable(f"the engine {hosted.name!r} is not loaded")
        return hosted.engine

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._give()
        if error is None or isinstance(error, Exception | GeneratorExit):
            return
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            return
        logger.opt(exception=error).error("the engine {!r} raised what no engine may raise", self._hosted.name)
        raise EngineError("the engine failed; the log says why") from error

    async def updates(self) -> AsyncGenerator[LoadProgress, None]:
        """Wait for the engine, and yield how far its load is, now and whenever that changes; then enter the lease."""
        if self._is_held or self._loads.take(self._hosted):
            self._is_held = True
            return
        entering = asyncio.create_task(self._hold())
        last: LoadProgress | None = None
        try:
            await asyncio.sleep(0)  # it asks for the load, which may have to wait
            while not entering.done():
                if (progress := self._hosted.progress) != last:
                    last = progress
                    yield progress
                await asyncio.wait({entering}, timeout=_LOOK)
            await entering
        except BaseException:
            entering.cancel()
            await asyncio.wait({entering})
            self._drop()
            raise

    async def wait(self) -> None:
        """Wait for the engine, and hold it no longer: what it serves is known then."""
        await self._hold()
        self.leave()

    def leave(self) -> None:
        """Hold the engine no longer, where it was not entered."""
        self._drop()

    async def _hold(self) -> None:
        if self._is_held:
            return
        if not self._loads.take(self._hosted):
            self.has_waited = True
            await self._wait()
        self._is_held = True

    async def _wait(self) -> None:
        hosted, left = self._hosted, self._until - time.monotonic()
        if not self._is_patient:
            self._loads.wish(hosted)
            raise Unavailable("the model is not loaded, and another engine is asked meanwhile")
        hosted.waiting.add(self._deadline)
        try:
            async with asyncio.timeout(max(left, 0.0)):
                await self._loads.hold(hosted)
        except TimeoutError as error:
            step = hosted.progress.step
            why = f": {step}" if step else ""
            what = f"the model {hosted.label!r} was not loaded within {max(left, 0.0):.1f} s{why}"
            if self._until < self._deadline.first:
                raise QueueTimeout(what, retry_after=1.0) from error
            raise DeadlineExceeded(what) from error
        finally:
            hosted.waiting.discard(self._deadline)

    def _give(self) -> None:
        hosted = self._hosted
        hosted.running.discard(self._deadline)
        if not hosted.running:
            hosted.idle.set()
        self._drop()

    def _drop(self) -> None:
        if self._is_held:
            self._is_held = False
            self._loads.give(self._hosted)


async def wait_idle(hosted: HostedEngine, seconds: float) -> None:
    """Let what an engine answers finish within its time, and cut off the rest."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await hosted.idle.wait()
    for deadline in list(hosted.running):
        deadline.abort(Unavailable("the model was unloaded before the answer was finished"))
    await hosted.idle.wait()


def abort_all(engines: Iterable[HostedEngine], error: EngineError) -> None:
    """Cut off what engines answer, and what waits for their loads."""
    for deadline in [deadline for hosted in engines for deadline in (*hosted.running, *hosted.waiting)]:
        deadline.abort(error)
