"""Runs the batches of all callers that are under way, some at once, and removes what is too old.

Of processes with one folder of files one runs them: a worker may still be there when the next one begins.
"""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from typing import Self

from loguru import logger

from gateway.api.batches.asking import LineAsker
from gateway.api.batches.run import BatchParts, BatchRun
from gateway.flow.tasks import Tasks
from gateway.store import BatchTable, OwnedBatch, StoreUnavailable, beside_disk

# Batches of one model that run at once, whose lines share its places; and batches that are checked, or end, at once.
_MOST_RUNS = 8
# Seconds between two looks at what others have stored, two tries at a batch that failed, and two sweeps.
_LOOK_SECONDS = 5.0
_AGAIN_SECONDS = 30.0
_SWEEP_SECONDS = 60.0
# Results that are removed at once.
_CLEARED = 500


class BatchRunner:
    """Runs batches. Enter it to begin, leave it or `stop` it to end: batches under way go on another time."""

    def __init__(self, asker: LineAsker) -> None:
        self.counts: Counter[str] = Counter()
        self.under_way = 0
        self._files = asker.files
        self._asker = asker
        self._parts = BatchParts(asker, asker.files, asker.current, self.counts)
        self._runs: dict[str, BatchRun] = {}
        self._paused: dict[str, float] = {}
        self._tasks = Tasks()
        self._looking = Tasks()
        self._woken = asyncio.Event()
        self._swept = 0.0

    @property
    def given_way(self) -> int:
        """How often a line was ended since a request came."""
        return self._asker.given_way

    async def __aenter__(self) -> Self:
        self._looking.start(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Begin nothing more, and end what runs; it is begun again by the next service."""
        await self._looking.end()
        await self._tasks.end()

    def wake(self) -> None:
        """Look at once, as a batch was made or is to end."""
        self._woken.set()

    async def _keep(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._look()
            except StoreUnavailable:
                pass  # the log has it
            except Exception as error:  # noqa: BLE001 - it is tried again
                logger.opt(exception=error).error("batches cannot be run for now")
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._woken.wait()

    async def _look(self) -> None:
        """Begin the batches that are under way and do not run, end those that are cancelled, and clean up."""
        found = await self._files.store.run(lambda database: BatchTable(database).under_way())
        self.under_way = len(found)
        is_used = bool(found) or (self._files.folder.path is not None and self._files.folder.path.exists())
        if not is_used or not await beside_disk(self._files.folder.lock):
            return
        for owned in found:
            if owned.record.status == "cancelling" and owned.record.id in self._runs:
                self._runs[owned.record.id].cancel()
        while (batch := self._next(found)) is not None:
            self._start(batch)
        if time.monotonic() - self._swept > _SWEEP_SECONDS:
            self._swept = time.monotonic()
            await self._sweep()

    def _next(self, found: list[OwnedBatch]) -> OwnedBatch | None:
        """Choose a batch that does not run, of a group with room: of the owner with the fewest that do, the oldest."""
        now, groups = time.monotonic(), Counter(run.group for run in self._runs.values())
        waiting = [
            batch
            for batch in found
            if batch.record.id not in self._runs
            and self._paused.get(batch.record.id, now) <= now
            and groups[self._group(batch)] < _MOST_RUNS
        ]
        own = Counter(run.owner for run in self._runs.values())
        return min(waiting, key=lambda batch: own[batch.owner], default=None)

    def _group(self, batch: OwnedBatch) -> str | None:
        """Return the own name of the model that all lines are for, empty for another; `None` where none is asked."""
        if batch.record.status != "in_progress":
            return None
        return "" if batch.record.model is None else self._asker.name_of(batch.record.model)

    def _start(self, batch: OwnedBatch) -> None:
        run = self._runs[batch.record.id] = BatchRun(self._parts, batch.owner, batch.record, self._group(batch))
        self._tasks.start(self._run(run))

    async def _run(self, run: BatchRun) -> None:
        try:
            await run.run()
            self._paused.pop(run.id, None)
        except Exception as error:  # noqa: BLE001 - it is tried again
            logger.opt(exception=error).error("{} failed in a way that nothing foresaw; it is tried again", run.id)
            self._paused[run.id] = time.monotonic() + _AGAIN_SECONDS
        finally:
            del self._runs[run.id]
        self.wake()

    async def _sweep(self) -> None:
        """Remove files that expired, results of batches that are over, and batches that were over for as long."""
        store, kept = self._files.store, time.time() - self._files.settings.ttl_seconds
        await self._files.sweep()
        has_more = True
        while has_more:
            has_more = await store.run(lambda database: BatchTable(database).clear(_CLEARED))
        await store.run(lambda database: BatchTable(database).forget(kept))
