"""The work at the tables of batches; it blocks, and is done on the store's thread.

A line's result is stored once: with the count of the batch, in one transaction, and never over another one.
"""

from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct, structs

from gateway.engine import EngineError
from gateway.store.database import Database
from gateway.store.file_table import FileRoom, FileTable
from gateway.store.records import BatchRecord, FileRecord, LineResult

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(BatchRecord).decode


class TooManyBatches(EngineError):
    """The owner has as many batches under way as it may have."""

    code = "too_many_batches"


class OwnedBatch(Struct, frozen=True):
    """A batch with its owner."""

    owner: str
    record: BatchRecord


class BatchPage(Struct, frozen=True):
    """Some batches of a list, the newest one first, and whether there are more behind them."""

    batches: tuple[BatchRecord, ...]
    has_more: bool


class BatchTable:
    """The batches of all owners, and the results of those under way. Every method raises `sqlite3.Error`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection = database.connection

    def add(self, owner: str, record: BatchRecord, most: int) -> FileRecord | None:
        """Note a batch, and return its input; `None` where that is not there. Raise `TooManyBatches`."""
        with self._database.transaction():
            found = FileTable(self._database).get(owner, record.input_file_id)
            if found is None or found.purpose != "batch":
                return found
            own = self._connection.execute(
                "SELECT count(*) FROM batches WHERE owner = ? AND is_over = 0", (owner,)
            ).fetchone()[0]
            if own >= most:
                raise TooManyBatches(f"{own} batches of yours are under way; batches.per_key is {most}: wait for one")
            self._connection.execute(
                "INSERT INTO batches (id, owner, input, is_over, changed, bytes, record) VALUES (?, ?, ?, 0, ?, 0, ?)",
                (record.id, owner, record.input_file_id, self._database.clock(), _encode(record)),
            )
        return found

    def get(self, owner: str, identity: str) -> BatchRecord | None:
        """Find a batch."""
        found = self._connection.execute(
            "SELECT record FROM batches WHERE owner = ? AND id = ?", (owner, identity)
        ).fetchone()
        return None if found is None else _decode(found[0])

    def page(self, owner: str, after: str | None, limit: int) -> BatchPage | None:
        """List batches, the newest one first; `None` where `after` is none of them."""
        words, values = "SELECT record FROM batches WHERE owner = ?", list[object]([owner])
        if after is not None:
            start = self._connection.execute(
                "SELECT number FROM batches WHERE owner = ? AND id = ?", (owner, after)
            ).fetchone()
            if start is None:
                return None
            words += " AND number < ?"
            values.append(start[0])
        rows = self._connection.execute(f"{words} ORDER BY number DESC LIMIT ?", (*values, limit + 1)).fetchall()
        return BatchPage(tuple(_decode(row[0]) for row in rows[:limit]), len(rows) > limit)

    def under_way(self) -> list[OwnedBatch]:
        """List the batches that are not over, the oldest one first."""
        rows = self._connection.execute("SELECT owner, record FROM batches WHERE is_over = 0 ORDER BY number")
        return [OwnedBatch(owner, _decode(record)) for owner, record in rows.fetchall()]

    def change(self, identity: str, work: Callable[[BatchRecord], BatchRecord]) -> BatchRecord | None:
        """Put what `work` makes of a batch in its place, and return it; `None` where there is none."""
        with self._database.transaction():
            found = self._read(identity)
            return None if found is None else self._write(work(found.record))

    def put(self, identity: str, result: LineResult, room: FileRoom) -> BatchRecord | None:
        """Store the result of a line, unless it has one; return the batch. Raise `QuotaExceeded`."""
        with self._database.transaction():
            found = self._read(identity)
            if found is None:
                return None
            FileTable(self._database).check_room(found.owner, room, len(result.text), files=0)
            is_new = self._connection.execute(
                "INSERT OR IGNORE INTO lines (batch, number, is_error, text) VALUES (?, ?, ?, ?)",
                (identity, result.number, result.is_error, result.text),
            ).rowcount
            if not is_new:
                return found.record
            self._connection.execute("UPDATE batches SET bytes = bytes + ? WHERE id = ?", (len(result.text), identity))
            record = found.record
            return self._write(
                structs.replace(
                    record,
                    completed=record.completed + (not result.is_error),
                    failed=record.failed + result.is_error,
                    tokens=record.tokens.plus(result.tokens),
                )
            )

    def done(self, identity: str) -> set[int]:
        """Return the numbers of the lines that have a result."""
        rows = self._connection.execute("SELECT number FROM lines WHERE batch = ?", (identity,))
        return {row[0] for row in rows.fetchall()}

    def results(self, identity: str, *, is_error: bool, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return results behind a line in the order of the lines, each with its number."""
        return self._connection.execute(
            "SELECT number, text FROM lines WHERE batch = ? AND is_error = ? AND number > ? ORDER BY number LIMIT ?",
            (identity, is_error, after, limit),
        ).fetchall()

    def finish(
        self, identity: str, files: Sequence[FileRecord], work: Callable[[BatchRecord], BatchRecord]
    ) -> BatchRecord | None:
        """Note the files of a batch whose bytes are in the folder, and that it is over, at once."""
        with self._database.transaction():
            found = self._read(identity)
            if found is None:
                return None
            for file in files:
                FileTable(self._database).write(found.owner, file)
            self._connection.execute("UPDATE batches SET bytes = 0 WHERE id = ?", (identity,))
            return self._write(work(found.record))

    def clear(self, limit: int) -> bool:
        """Remove so many results of batches that are over; return whether there may be more."""
        with self._database.transaction():
            return (
                limit
                == self._connection.execute(
                    "DELETE FROM lines WHERE rowid IN (SELECT lines.rowid FROM lines LEFT JOIN batches"
                    " ON batches.id = lines.batch WHERE coalesce(batches.is_over, 1) LIMIT ?)",
                    (limit,),
                ).rowcount
            )

    def forget(self, before: float) -> None:
        """Remove the batches that were over before a moment."""
        with self._database.transaction():
            self._connection.execute("DELETE FROM batches WHERE is_over = 1 AND changed < ?", (before,))

    def _read(self, identity: str) -> OwnedBatch | None:
        found = self._connection.execute("SELECT owner, record FROM batches WHERE id = ?", (identity,)).fetchone()
        return None if found is None else OwnedBatch(found[0], _decode(found[1]))

    def _write(self, record: BatchRecord) -> BatchRecord:
        self._connection.execute(
            "UPDATE batches SET is_over = ?, changed = ?, record = ? WHERE id = ?",
            (record.is_over, self._database.clock(), _encode(record), record.id),
        )
        return record
