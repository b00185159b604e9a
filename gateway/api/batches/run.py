"""One batch from its first line to its files; begun again, it goes on where it was."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import TypeVar

from loguru import logger
from msgspec import Struct

from gateway.api.batches import steps
from gateway.api.batches.asking import MOST_TRIES, KeyGone, LineAsker, LineReply
from gateway.api.batches.lines import BatchLine, LineCheck, parse, read_lines
from gateway.api.batches.results import ResultWriter, to_result
from gateway.api.http.problems import Problem
from gateway.config.snapshot import CurrentConfig
from gateway.flow.offload import beside
from gateway.flow.tasks import end_all
from gateway.store import (
    BatchFault,
    BatchRecord,
    BatchStatus,
    BatchTable,
    Files,
    LineResult,
    QuotaExceeded,
    StoreUnavailable,
)

T = TypeVar("T")

# Seconds between two tries at a store or a disk that is away.
_LEAST_SECONDS, _MOST_SECONDS = 0.5, 30.0
# Lines are checked for a part of the time only, as the loop and that thread share the interpreter.
_SHARE = 3


class BatchParts(Struct, frozen=True):
    """The parts of the service that a batch needs, and the count of the lines that were answered, by their ends."""

    asker: LineAsker
    files: Files
    current: CurrentConfig
    counts: Counter[str]


class BatchRun:
    """Runs one batch; `cancel` has it end with what there is. Of a `group` so many run at once."""

    def __init__(self, parts: BatchParts, owner: str, record: BatchRecord, group: str | None = None) -> None:
        self.id = record.id
        self.owner = owner
        self.group = group
        self._parts = parts
        self._record = record
        self._cancelled = asyncio.Event()
        self._stopped = asyncio.Event()
        self._ending: BatchStatus = "completed"
        self._fault: BatchFault | None = None

    def cancel(self) -> None:
        """Have it end with what there is."""
        self._cancelled.set()

    async def run(self) -> None:
        """Check it, or run it to its end; it goes on another time where the task is cancelled, and after the check."""
        if self._record.status == "validating":
            await self._check()
            return
        if self._record.status == "in_progress":
            await self._work()
        if not self._record.is_over:
            await self._finish()

    async def _check(self) -> None:
        """Check all lines, and begin, or fail."""
        record, config = self._record, self._parts.current.config
        check = LineCheck(record.endpoint, config.batches.max_lines, self._parts.asker.checker(record.endpoint))
        async for lines in self._lines():
            began = time.monotonic()
            await beside(lambda: check.see(lines))  # noqa: B023 - it is waited for
            await asyncio.sleep(_SHARE * (time.monotonic() - began))
            if check.is_hopeless or self._cancelled.is_set():
                break
        check.finish()
        now = int(time.time())
        if check.faults and not self._cancelled.is_set():
            await self._change(lambda found: steps.fail(found, check.faults, now))
        else:
            await self._change(lambda found: steps.begin(found, check.total, check.model, now))

    async def _work(self) -> None:
        """Answer the lines that have no result, several at once; return when all have one, or the batch ends."""
        done = await self._keep_trying(lambda table: table.done(self.id), has_room=False)
        queue: asyncio.Queue[BatchLine | None] = asyncio.Queue(1)
        count = self._parts.current.config.batches.at_once
        tasks = [asyncio.create_task(self._read(queue, done, count))]
        tasks += [asyncio.create_task(self._answer_all(queue)) for _ in range(count)]
        ends = [asyncio.create_task(event.wait()) for event in (self._cancelled, self._stopped)]
        over = asyncio.create_task(_all(tasks))
        try:
            left = max(self._record.expires_at - time.time(), 0.0)
            finished, _ = await asyncio.wait({over, *ends}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not finished:
                self._ending = "expired"
            elif over.done():
                over.result()
        finally:
            await end_all([*tasks, *ends, over])

    async def _read(self, queue: "asyncio.Queue[BatchLine | None]", done: set[int], count: int) -> None:
        async for lines in self._lines():
            for line in lines:
                if line.number not in done:
                    await queue.put(line)
        for _ in range(count):
            await queue.put(None)

    async def _answer_all(self, queue: "asyncio.Queue[BatchLine | None]") -> None:
        while (line := await queue.get()) is not None:
            asked = parse(line)
            try:
                reply = await self._answer(bytes(asked.body))
            except KeyGone as gone:
                self._stop(gone.fault)
                return
            await self._store(to_result(line.number, asked.custom_id, reply))

    async def _answer(self, body: bytes) -> LineReply:
        """Ask a line until there is an answer, or an error that is its own."""
        tries = 0
        while True:
            found = await self._parts.asker.ask(self.owner, self._record.endpoint, body)
            if isinstance(found, LineReply):
                return found
            tries += found.counts
            if tries >= MOST_TRIES and found.reply is not None:
                return found.reply
            await asyncio.sleep(found.seconds)

    async def _store(self, result: LineResult) -> None:
        """Store a result; a disk that is full is waited for, and an owner without room ends the batch."""
        try:
            record = await self._keep_trying(lambda table: table.put(self.id, result, self._parts.files.room))
        except QuotaExceeded as error:
            self._stop(BatchFault(error.code, error.message))
            return
        self._parts.counts["failed" if result.is_error else "completed"] += 1
        if record is None or record.status != "in_progress":
            self._cancelled.set()

    def _stop(self, fault: BatchFault) -> None:
        """End the batch as failed, with what there is."""
        self._ending, self._fault = "failed", fault
        self._stopped.set()

    async def _finish(self) -> None:
        """Write the files, and say that the batch is over; where the disk is full, that is waited for."""
        faults, now = () if self._fault is None else (self._fault,), int(time.time())
        ending = self._ending
        record = await self._change(lambda found: steps.end(found, ending, now, faults))
        most_bytes = self._parts.current.config.server.max_body_bytes
        writer = ResultWriter(self._parts.files, self.owner, most_bytes)
        seconds = _LEAST_SECONDS
        while not record.is_over:
            try:
                made = await writer.write(record)
                ended = await self._run(
                    lambda table: table.finish(self.id, made, lambda found: steps.over(found, int(time.time())))  # noqa: B023
                )
            except StoreUnavailable:
                await asyncio.sleep(seconds)
                seconds = min(2 * seconds, _MOST_SECONDS)
            else:
                record = self._record = ended or record
                break
        logger.bind(event="batch_over", key=self.owner).info("{} is {}", self.id, record.status)

    async def _lines(self) -> AsyncGenerator[list[BatchLine], None]:
        most = self._parts.current.config.server.max_body_bytes
        async for lines in read_lines(await self._open(), most):
            yield lines

    async def _open(self) -> int:
        while True:
            try:
                return await self._parts.files.open(self._record.input_file_id)
            except StoreUnavailable:
                await asyncio.sleep(_MOST_SECONDS)

    async def _change(self, step: Callable[[BatchRecord], BatchRecord]) -> BatchRecord:
        changed = await self._keep_trying(lambda table: table.change(self.id, step))
        if changed is None:
            raise Problem("not_found", f"{self.id} is no longer there")
        self._record = changed
        return changed

    async def _keep_trying(self, work: Callable[[BatchTable], T], *, has_room: bool = True) -> T:
        """Work at the table, however long that is away."""
        seconds = _LEAST_SECONDS
        while True:
            try:
                return await self._run(work, has_room=has_room)
            except StoreUnavailable:
                await asyncio.sleep(seconds)
                seconds = min(2 * seconds, _MOST_SECONDS)

    async def _run(self, work: Callable[[BatchTable], T], *, has_room: bool = True) -> T:
        return await self._parts.files.store.run(lambda database: work(BatchTable(database)), has_room=has_room)


async def _all(tasks: Iterable[asyncio.Task[None]]) -> bool:
    await asyncio.gather(*tasks)
    return True
