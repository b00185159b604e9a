"""The work at the tables of the store, all of which blocks: it is done on one thread.

Beyond the bound, the owner that has most loses its
oldest: a caller that stores much pushes out its own, not others'.
"""

import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from gateway.store.entry import Entry, EntryPage
from gateway.store.file import APPLICATION, VERSION, check_form, connect
from gateway.store.tables import BATCH_TABLES, SELECT, SELECT_ONE, TABLES, WITH_LABEL, WRITE

# The file keeps no deleted text in pages that are free.
_PRAGMAS = ("journal_mode = WAL", "synchronous = NORMAL", "secure_delete = ON", "journal_size_limit = 4194304")

_encode = msgspec.json.Encoder().encode
_labels = msgspec.json.Decoder(dict[str, str])


class Database:
    """Entries of all owners, `max_bytes` at most, each for `ttl_seconds` from its last change.

    `clock` tells the seconds since 1970. Every method but the first raises `sqlite3.Error`.
    """

    def __init__(
        self, path: Path | None, max_bytes: int, ttl_seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        """Open the database, and make its tables where it is new; raise `StoreFileError` or `sqlite3.Error`."""
        self._max_bytes = max_bytes
        self._ttl = ttl_seconds
        self.clock = clock
        self.connection = connect(path)
        self._path = path
        self.evicted = 0
        try:
            for pragma in _PRAGMAS:
                self.connection.execute(f"PRAGMA {pragma}")
            if check_form(self.connection, path):
                self.connection.executescript(TABLES)
                self.connection.execute(f"PRAGMA application_id = {APPLICATION}")
                self.connection.execute(f"PRAGMA user_version = {VERSION}")
            self.connection.executescript(BATCH_TABLES)
        except BaseException:
            self.connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def has_lost_its_file(self) -> bool:
        """Tell whether the file was removed, so that new entries would go with the process.

        One that another file has replaced is left as it is: SQLite's log, which is found by the name, would be written
        into that one when it is opened.
        """
        return self._path is not None and not os.path.lexists(self._path)

    def totals(self) -> tuple[int, int]:
        """Return the bytes and the number of all entries."""
        found = self.connection.execute("SELECT coalesce(sum(bytes), 0), coalesce(sum(entries), 0) FROM owners")
        size, entries = found.fetchone()
        return size, entries

    def put(self, owner: str, entry: Entry) -> bool:
        """Store an entry, in the place of one with its id; return whether it has room at all."""
        if entry.size > self._max_bytes:
            return False
        with self.transaction():
            self._write(owner, entry)
        return True

    def get(self, owner: str, kind: str, identity: str) -> Entry | None:
        """Find an entry."""
        row = self.connection.execute(SELECT_ONE, (owner, kind, self._oldest(), identity)).fetchone()
        return None if row is None else _to_entry(row)

    def delete(self, owner: str, kind: str, identity: str) -> bool:
        """Remove an entry, from the file's log too; return whether there was one."""
        key = (owner, kind, identity, self._oldest())
        with self.transaction():
            found = self.connection.execute(
                "DELETE FROM entries WHERE owner = ? AND kind = ? AND id = ? AND changed > ?", key
            ).rowcount
        self._clean_log()
        return bool(found)

    def change(self, owner: str, kind: str, identity: str, work: Callable[[Entry], Entry]) -> Entry | None:
        """Put what `work` makes of an entry in its place, and return it; `None` where there is none to change.

        Nothing else is done meanwhile, so `work` is short. One that has no room any more goes.
        """
        with self.transaction():
            found = self.get(owner, kind, identity)
            if found is None:
                return None
            changed = work(found)
            if changed.size > self._max_bytes:
                return None
            self._write(owner, changed)
        return changed

    def page(  # noqa: PLR0913 - all that a list may be asked for
        self,
        owner: str,
        kind: str,
        *,
        labels: Mapping[str, str],
        after: str | None,
        limit: int,
        is_descending: bool,
    ) -> EntryPage | None:
        """List entries that have all `labels`, in the order of their making; `None` where `after` is none of them."""
        words = [SELECT, *[WITH_LABEL for _ in labels]]
        values: list[object] = [owner, kind, self._oldest(), *(text for pair in labels.items() for text in pair)]
        if after is not None:
            start = self._number(owner, kind, after)
            if start is None:
                return None
            words.append("AND number < ?" if is_descending else "AND number > ?")
            values.append(start)
        words.append("ORDER BY number DESC LIMIT ?" if is_descending else "ORDER BY number LIMIT ?")
        rows = self.connection.execute(" ".join(words), (*values, limit + 1)).fetchall()
        return EntryPage(tuple(_to_entry(row) for row in rows[:limit]), len(rows) > limit)

    def chain(self, owner: str, kind: str, identity: str, label: str, most_bytes: int) -> list[Entry] | str | None:
        """Follow a label that names the entry before, from `identity` back; return them, the first one first.

        Return the id of one that is no longer there, and `None` where they have more than `most_bytes` together.
        """
        found: list[Entry] = []
        size, following = 0, identity
        while following:
            entry = self.get(owner, kind, following)
            if entry is None:
                return following
            size += entry.size
            if size > most_bytes:
                return None
            found.append(entry)
            following = entry.labels.get(label, "")
        return found[::-1]

    def sweep(self) -> None:
        """Remove what is too old."""
        with self.transaction():
            gone = self._expire()
        if gone:
            self._clean_log()

    def _number(self, owner: str, kind: str, identity: str) -> int | None:
        row = self.connection.execute(
            "SELECT number FROM entries WHERE owner = ? AND kind = ? AND id = ?", (owner, kind, identity)
        ).fetchone()
        return None if row is None else row[0]

    def _write(self, owner: str, entry: Entry) -> None:
        values = (owner, entry.kind, entry.id, entry.created, self.clock(), entry.size, _encode(entry.labels).decode())
        texts = (entry.body, entry.input, entry.events)
        number = self.connection.execute(WRITE, (*values, *texts)).fetchone()[0]
        self._expire()
        while self.totals()[0] > self._max_bytes and self._evict(number):
            self.evicted += 1

    def _evict(self, newest: int) -> bool:
        """Remove the oldest entry of the owner that has most; never the newest one of all."""
        owners = self.connection.execute("SELECT owner FROM owners ORDER BY bytes DESC").fetchall()
        for owner in owners:
            row = self.connection.execute(
                "SELECT number FROM entries WHERE owner = ? AND number <> ? ORDER BY changed, number LIMIT 1",
                (owner[0], newest),
            ).fetchone()
            if row is not None:
                self.connection.execute("DELETE FROM entries WHERE number = ?", row)
                return True
        return False

    def _expire(self) -> int:
        return self.connection.execute("DELETE FROM entries WHERE changed <= ?", (self._oldest(),)).rowcount

    def _oldest(self) -> float:
        return self.clock() - self._ttl

    def _clean_log(self) -> None:
        """Move what was written into the file, so that the log holds no removed text either."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextmanager
    def transaction(self) -> Generator[None, None, None]:
        """Do all that is done inside, or nothing of it."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise


def _to_entry(row: tuple[str, str, float, bytes, bytes, bytes, str]) -> Entry:
    kind, identity, created, body, given, events, labels = row
    return Entry(
        kind=kind, id=identity, created=created, body=body, input=given, events=events, labels=_labels.decode(labels)
    )
