"""The batches of one caller: made, found, listed, cancelled."""

import time

from gateway.api.batches import steps
from gateway.api.batches.schema import BatchBody, BatchList, BatchObject, to_object, window_seconds
from gateway.api.exchange.paging import unknown_after
from gateway.api.files.stored import missing as missing_file
from gateway.api.http.problems import Problem
from gateway.store import BatchRecord, BatchTable, Store


class StoredBatches:
    """The batches of one caller. Methods raise `Problem` for one that is not there, and `StoreUnavailable`."""

    def __init__(self, store: Store, owner: str) -> None:
        self._store = store
        self._owner = owner

    async def create(self, body: BatchBody, identity: str, most: int) -> BatchObject:
        """Make a batch of a file; raise `Problem`, or `TooManyBatches` where `most` are under way."""
        seconds, now = window_seconds(body.completion_window), int(time.time())
        if seconds is None:
            what = "completion_window: expected a number and s, m, h or d, 30 days at most"
            raise Problem("invalid_value", what, param="completion_window")
        expiry = body.output_expires_after
        record = BatchRecord(
            id=identity,
            endpoint=body.endpoint,
            input_file_id=body.input_file_id,
            completion_window=body.completion_window,
            created_at=now,
            expires_at=now + seconds,
            keep_seconds=None if expiry is None else expiry.seconds,
            metadata=body.metadata,
        )
        given = await self._store.run(
            lambda database: BatchTable(database).add(self._owner, record, most), has_room=True
        )
        if given is None:
            raise missing_file(body.input_file_id, "input_file_id")
        if given.purpose != "batch":
            what = f"input_file_id: this file has the purpose {given.purpose}, not batch"
            raise Problem("invalid_value", what, param="input_file_id")
        return to_object(record)

    async def read(self, identity: str) -> BatchObject:
        """Return a batch."""
        return to_object(await self._find(identity))

    async def page(self, after: str | None, limit: int) -> BatchList:
        """List the batches, the newest one first."""
        page = await self._store.run(lambda database: BatchTable(database).page(self._owner, after, limit))
        if page is None:
            raise unknown_after(after or "")
        shown = [to_object(record) for record in page.batches]
        first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
        return BatchList(list(shown), first, last, page.has_more)

    async def cancel(self, identity: str) -> BatchObject:
        """Tell a batch to end with what there is; one that was told so stays as it is."""
        await self._find(identity)
        now = int(time.time())
        changed = await self._store.run(
            lambda database: BatchTable(database).change(identity, lambda record: steps.cancel(record, now)),
            has_room=True,
        )
        if changed is None:
            raise _missing(identity)
        return to_object(changed)

    async def _find(self, identity: str) -> BatchRecord:
        record = await self._store.run(lambda database: BatchTable(database).get(self._owner, identity))
        if record is None:
            raise _missing(identity)
        return record


def _missing(identity: str) -> Problem:
    return Problem("not_found", f"there is no batch {identity!r:.80} of yours", param="batch_id")
