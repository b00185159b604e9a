"""The file of the store: readable by its owner only, and checked before anything relies on it."""

import errno
import fcntl
import os
import sqlite3
import struct
import sys
from contextlib import closing
from pathlib import Path

from gateway.engine import not_private
from gateway.store.entry import StoreFileError

# Where SQLite keeps the mark of the program that a file belongs to: "llmg".
APPLICATION = 0x6C6C6D67
# The form of the tables.
VERSION = 1
_PATIENCE_SECONDS = 2.0
# A lock on one byte, far behind all that SQLite writes or locks: the `struct flock` of fcntl(2).
_HELD = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 2**62, 1, 0)


def connect(path: Path | None) -> sqlite3.Connection:
    """Open the file, made with mode 0600 where there is none yet, or a database in memory; raise `StoreFileError`."""
    try:
        if path is None:
            return sqlite3.connect(":memory:", isolation_level=None)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _look(path, os.O_RDWR | os.O_CREAT)
        return sqlite3.connect(path, timeout=_PATIENCE_SECONDS, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise StoreFileError(f"{path}: {_reason(error)}") from error


def hold(path: Path) -> int:
    """Make the file where there is none yet, and keep other services from it; raise `StoreFileError` where one has it.

    It is held until the descriptor that this returns is closed, or this process ends, however it ends. Closing other
    descriptors of the file does not let it go: the lock is of this one (F_OFD_SETLK).
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = _open(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise StoreFileError(f"{path}: {_reason(error)}") from error
    if sys.platform == "linux":
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _HELD)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):  # else the file system takes no locks
                os.close(descriptor)
                raise StoreFileError(f"{path}: another service uses it; give each service a file of its own") from error
    return descriptor


def check_file(path: Path) -> None:
    """Raise `StoreFileError` where the service could not use the file; one that does not exist yet is right."""
    try:
        if not path.exists() and not path.is_symlink():
            _check_folder(path.parent)
            return
        _look(path, os.O_RDWR)
        with closing(sqlite3.connect(path, timeout=_PATIENCE_SECONDS, isolation_level=None)) as connection:
            check_form(connection, path)
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except (OSError, sqlite3.Error) as error:
        raise StoreFileError(f"{path}: {_reason(error)}") from error
    if found != "ok":
        raise StoreFileError(f"{path}: it is damaged: {found.splitlines()[-1]}; move it away, and a new one is made")


def check_form(connection: sqlite3.Connection, path: Path | None) -> bool:
    """Tell whether the file is new; raise `StoreFileError` for one of another program or release."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    has_tables = bool(connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone())
    if not has_tables:
        return True
    if application != APPLICATION:
        raise StoreFileError(f"{path}: it is a database of another program")
    if version != VERSION:
        raise StoreFileError(f"{path}: its form is {version}; this release knows {VERSION}")
    return False


def _open(path: Path, flags: int) -> int:
    """Open the file without waiting and without following a link."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)


def _look(path: Path, flags: int) -> None:
    """Open the file for a look at its owner and mode."""
    descriptor = _open(path, flags)
    try:
        why = not_private(os.fstat(descriptor))
    finally:
        os.close(descriptor)  # before SQLite opens it: closing any other descriptor would drop SQLite's locks
    if why:
        raise StoreFileError(f"{path}: {why}")


def _check_folder(folder: Path) -> None:
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise StoreFileError(f"{folder}: no file can be made there")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return "it is a symbolic link" if error.errno == errno.ELOOP else str(error.strerror or error)
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return f"it is damaged or no database ({error}); move it away, and a new one is made"
    return str(error)
