"""The texts of all requests in one line: a round computes some of every request's, and none waits for a long one."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from gateway.engine import EngineError, Unavailable, compute_mark
from gateway_hf.embedding.encoder import TokenRow

_log = logging.getLogger("gateway_hf")

_FAILED = "the texts of this request cannot be computed; the log says why"

# Computes rows of tokens, and returns the numbers of each.
Compute = Callable[[Sequence[TokenRow]], list[bytes]]


class _Job:
    """The texts of one request: those that wait, and the vectors of the others by their places."""

    def __init__(self, rows: Sequence[TokenRow]) -> None:
        self.waiting = deque(enumerate(rows))
        self.vectors: list[bytes] = [b""] * len(rows)
        self.missing = len(rows)
        self.mark = compute_mark()
        self.done: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()


_Taken = tuple[_Job, int, TokenRow]


class Batcher:
    """Computes in a thread of its own, `most` tokens a round; used on one event loop."""

    def __init__(self, compute: Compute, most: int) -> None:
        self._compute = compute
        self._most = most
        self._jobs: deque[_Job] = deque()
        self._thread = ThreadPoolExecutor(1, "hf-encoder")
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many requests have texts that wait."""
        return len(self._jobs)

    async def compute(self, rows: Sequence[TokenRow]) -> list[bytes]:
        """Return what is made of each row; a caller that leaves takes what waits of it out of the line."""
        if self._closed:
            raise Unavailable("the model is not loaded")
        job = _Job(rows)
        self._jobs.append(job)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            return await job.done
        finally:
            if job in self._jobs:
                self._jobs.remove(job)

    async def close(self) -> None:
        """Turn away what waits, and wait for the round that is computed."""
        self._closed = True
        for job in self._jobs:
            if not job.done.done():
                job.done.set_exception(Unavailable("the model was unloaded"))
        self._jobs.clear()
        if self._task is not None:
            await self._task
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self) -> None:
        while taken := self._take():
            try:
                self._give(taken, await self._round(taken))
            except Exception:  # noqa: BLE001 - whose fault it is shows when each is computed alone
                await self._try_alone(taken)
        self._task = None

    async def _try_alone(self, taken: list[_Taken]) -> None:
        """Compute each request's part of a round that failed by itself, so that only the guilty one fails."""
        for job in {id(job): job for job, _, _ in taken}.values():
            part = [each for each in taken if each[0] is job]
            try:
                self._give(part, await self._round(part))
            except Exception as error:  # noqa: BLE001 - whatever torch makes of them
                _log.error("the texts of a request cannot be computed", exc_info=error)
                job.waiting.clear()
                if not job.done.done():
                    job.done.set_exception(error if isinstance(error, EngineError) else EngineError(_FAILED))

    async def _round(self, taken: list[_Taken]) -> list[bytes]:
        marks = {id(job): job.mark for job, _, _ in taken}.values()
        rows = [row for _, _, row in taken]

        def compute() -> list[bytes]:
            with ExitStack() as stack:
                for mark in marks:
                    stack.enter_context(mark)
                return self._compute(rows)

        return await asyncio.get_running_loop().run_in_executor(self._thread, compute)

    def _give(self, taken: list[_Taken], vectors: list[bytes]) -> None:
        for (job, place, _), vector in zip(taken, vectors, strict=True):
            job.vectors[place] = vector
            job.missing -= 1
            if not job.missing and not job.done.done():
                job.done.set_result(job.vectors)

    def _take(self) -> list[_Taken]:
        """Take a text of each request by turns, while the round has room; the first one fits always."""
        taken: list[_Taken] = []
        room = self._most
        while self._jobs:
            job = self._jobs[0]
            if not job.waiting:
                self._jobs.popleft()
                continue
            place, row = job.waiting[0]
            if taken and len(row.ids) > room:
                break
            room -= len(row.ids)
            taken.append((job, place, row))
            job.waiting.popleft()
            self._jobs.rotate(-1)
        return taken
