"""The file of API keys: SQLite, readable by its owner only."""

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from gateway.auth.caller import Scope
from gateway.auth.keys import Key, new_key
from gateway.engine import not_private
from gateway.limits.quota import Quota

_TABLE = """CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL UNIQUE,
    key BLOB NOT NULL
) STRICT"""
# Where SQLite counts the changes of a file, in its header.
_COUNTER = slice(24, 28)
# The wait for a program that has the file locked, as `keys create` has for milliseconds.
_PATIENCE_SECONDS = 5.0
# Nanoseconds; the clocks of some file systems stand still for two seconds.
_TICK = 3 * 10**9

Stamp = tuple[int, int, int, bytes]

_decoder = msgspec.json.Decoder(Key)


class KeyFileError(Exception):
    """The file of the keys cannot be used; the message gives the reason."""


class KeyFile:
    """Reads and writes the keys of one file; `clock` tells the seconds since 1970."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock

    def create(  # noqa: PLR0913 - all that a key may have
        self,
        name: str,
        *,
        scopes: frozenset[Scope] = frozenset({Scope.INFER}),
        models: frozenset[str] | None = None,
        quota: Quota | None = None,
        priority: int = 0,
        seconds: float | None = None,
    ) -> tuple[Key, str]:
        """Make a key that is valid for so many `seconds`, or for ever; return it and its text, to be shown once."""
        now = self._clock()
        identity, text, digest = new_key()
        raw = {
            "id": identity,
            "name": name,
            "digest": digest,
            "scopes": list(scopes),
            "models": None if models is None else sorted(models),
            "quota": msgspec.to_builtins(quota or Quota()),
            "priority": priority,
            "created": now,
            "expires": None if seconds is None else now + seconds,
        }
        try:
            key = msgspec.convert(raw, Key)
        except msgspec.ValidationError as error:
            raise KeyFileError(f"no such key can be made: {error}") from error
        with self._open(is_new=True) as connection:
            try:
                connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", _row(key))
            except sqlite3.IntegrityError as error:
                raise KeyFileError(f"there is a key named {name!r} already") from error
        return key, text

    def read(self, patience: float = _PATIENCE_SECONDS) -> list[Key]:
        """List all keys, the revoked and expired too, oldest first; none where there is no file yet.

        A file that another program has locked is waited for, for so many seconds. Raise `KeyFileError`.
        """
        if not self.path.exists():
            return []
        with self._open(patience) as connection:
            rows = connection.execute("SELECT key FROM keys").fetchall()
        try:
            return sorted((_decoder.decode(row[0]) for row in rows), key=lambda key: key.created)
        except (msgspec.DecodeError, TypeError) as error:
            raise KeyFileError(f"{self.path}: a key in it cannot be read") from error

    def revoke(self, id_or_name: str) -> Key:
        """End a key, from now on and for ever; one that is ended already stays as it is."""
        found = next((key for key in self.read() if id_or_name in (key.id, key.name)), None)
        if found is None:
            raise KeyFileError(f"there is no key {id_or_name!r}")
        if found.revoked is None:
            found = msgspec.structs.replace(found, revoked=self._clock())
            with self._open() as connection:
                connection.execute("UPDATE keys SET key = ? WHERE id = ?", (msgspec.json.encode(found), found.id))
        return found

    def stamp(self) -> Stamp | None:
        """Tell this state of the file from any other, for some microseconds; `None` where there is no file.

        Two changes may come within one tick of the clock that stamps files: while the last one is recent, the file is
        opened for SQLite's count of its changes. It waits for no other program. Raise `KeyFileError`.
        """
        try:
            status = os.stat(self.path)  # noqa: PTH116 - the path's own method takes twice as long
            self._refuse_irregular(status)
            is_recent = time.time_ns() - status.st_ctime_ns < _TICK
            return status.st_ino, status.st_ctime_ns, status.st_size, self._counter() if is_recent else b""
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyFileError(f"{self.path}: {error.strerror}") from error

    def _counter(self) -> bytes:
        """Read SQLite's count; the file may have become a pipe, or another program may hold a lease on it."""
        file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(file, _COUNTER.stop)[_COUNTER]
        finally:
            os.close(file)

    @contextmanager
    def _open(self, patience: float = _PATIENCE_SECONDS, *, is_new: bool = False) -> Iterator[sqlite3.Connection]:
        """Open the file in one transaction, and make it first where it is `is_new`; others must not see into it."""
        try:
            if is_new:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_NONBLOCK, 0o600))
            self._check()
            with closing(sqlite3.connect(self.path, timeout=patience)) as connection, connection:
                if is_new:
                    connection.execute(_TABLE)
                yield connection
        except (OSError, sqlite3.OperationalError, sqlite3.DatabaseError) as error:
            raise KeyFileError(f"{self.path}: {error}") from error

    def _refuse_irregular(self, status: os.stat_result) -> None:
        """Raise `KeyFileError` for a folder, a pipe or a device, which could keep its reader waiting for ever."""
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"{self.path}: it is no regular file")

    def _check(self) -> None:
        if why := not_private(self.path.stat()):
            raise KeyFileError(f"{self.path}: {why}")


def _row(key: Key) -> tuple[str, str, str, bytes]:
    return key.id, key.name, key.digest, msgspec.json.encode(key)
