"""The work at the table of files; it blocks, and is done on the store's thread."""

import msgspec
from msgspec import Struct

from gateway.engine import EngineError
from gateway.store.database import Database
from gateway.store.records import FilePurpose, FileRecord

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(FileRecord).decode


class QuotaExceeded(EngineError):
    """There is no room left for this; the message says of what, and the setting."""

    code = "quota_exceeded"


class FileInUse(EngineError):
    """A batch that is under way reads the file."""

    code = "file_in_use"


class FileRoom(Struct, frozen=True, kw_only=True):
    """How much there may be: bytes of all owners and of one, results of batches included, and files of one."""

    all_bytes: int
    bytes: int
    files: int


class FilePage(Struct, frozen=True):
    """Some files of a list in its order, and whether there are more behind them."""

    files: tuple[FileRecord, ...]
    has_more: bool


class FileTable:
    """The files of all owners. Every method raises `sqlite3.Error`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection = database.connection

    def check_room(self, owner: str, room: FileRoom, more: int, files: int = 1) -> None:
        """Raise `QuotaExceeded` where so many more bytes and files have no room."""
        own, everything = self.used(owner), self.used(None)
        if own[1] + files > room.files:
            raise QuotaExceeded(f"there are {own[1]} files of yours; files.per_key is {room.files}: delete some")
        if own[0] + more > room.bytes:
            used = f"your files and results of batches have {own[0]} bytes"
            raise QuotaExceeded(f"{used}; files.bytes_per_key is {room.bytes}: delete some files")
        if everything[0] + more > room.all_bytes:
            raise QuotaExceeded(f"there is no room for more files: files.max_bytes is {room.all_bytes}")

    def add(self, owner: str, record: FileRecord, room: FileRoom) -> None:
        """Note a file whose bytes are in the folder; raise `QuotaExceeded`."""
        with self._database.transaction():
            self.check_room(owner, room, record.bytes)
            self.write(owner, record)

    def write(self, owner: str, record: FileRecord) -> None:
        """Note a file, in a transaction that is begun."""
        self._connection.execute(
            "INSERT INTO files (id, owner, purpose, bytes, expires, record) VALUES (?, ?, ?, ?, ?, ?)",
            (record.id, owner, record.purpose, record.bytes, record.expires_at, _encode(record)),
        )

    def get(self, owner: str, identity: str) -> FileRecord | None:
        """Find a file."""
        row = self._connection.execute(
            "SELECT record FROM files WHERE owner = ? AND id = ?", (owner, identity)
        ).fetchone()
        return None if row is None else _decode(row[0])

    def page(
        self, owner: str, *, purpose: FilePurpose | None, after: str | None, limit: int, is_descending: bool
    ) -> FilePage | None:
        """List files in the order of their making; `None` where `after` is none of them."""
        words, values = "SELECT record FROM files WHERE owner = ?", list[object]([owner])
        if purpose is not None:
            words += " AND purpose = ?"
            values.append(purpose)
        if after is not None:
            start = self._connection.execute(
                "SELECT number FROM files WHERE owner = ? AND id = ?", (owner, after)
            ).fetchone()
            if start is None:
                return None
            words += " AND number < ?" if is_descending else " AND number > ?"
            values.append(start[0])
        words += f" ORDER BY number {'DESC' if is_descending else 'ASC'} LIMIT ?"
        rows = self._connection.execute(words, (*values, limit + 1)).fetchall()
        return FilePage(tuple(_decode(row[0]) for row in rows[:limit]), len(rows) > limit)

    def delete(self, owner: str, identity: str) -> bool:
        """Forget a file; return whether there was one. Raise `FileInUse` where a batch under way reads it."""
        with self._database.transaction():
            reader = self._connection.execute(
                "SELECT id FROM batches WHERE is_over = 0 AND input = ? AND owner = ?", (identity, owner)
            ).fetchone()
            if reader is not None:
                raise FileInUse(f"{reader[0]} reads this file; cancel it first, or wait for its end", param="file_id")
            found = self._connection.execute("DELETE FROM files WHERE owner = ? AND id = ?", (owner, identity)).rowcount
        return bool(found)

    def expire(self, now: float) -> list[str]:
        """Forget the files whose time is over, but for those that a batch under way reads; return their ids."""
        with self._database.transaction():
            rows = self._connection.execute(
                "DELETE FROM files WHERE expires <= ? AND id NOT IN (SELECT input FROM batches WHERE is_over = 0)"
                " RETURNING id",
                (now,),
            ).fetchall()
        return [row[0] for row in rows]

    def ids(self) -> list[str]:
        """List the ids of all files, and those of the files that batches are about to write."""
        return [row[0] for row in self._connection.execute("SELECT id FROM files").fetchall()]

    def used(self, owner: str | None) -> tuple[int, int]:
        """Return the bytes and the number of an owner's files, results of batches among the bytes; `None` is all."""
        files = "SELECT coalesce(sum(bytes), 0), count(*) FROM files WHERE owner = ?1 OR ?1 IS NULL"
        size, number = self._connection.execute(files, (owner,)).fetchone()
        results = "SELECT coalesce(sum(bytes), 0) FROM batches WHERE owner = ?1 OR ?1 IS NULL"
        return size + self._connection.execute(results, (owner,)).fetchone()[0], number
