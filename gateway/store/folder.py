"""The bytes of files: each under its id in a folder of this user's alone, whole or not at all.

Without a folder they lie in files that have no name, and are gone with the process.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gateway.engine import sync_folder
from gateway.store.entry import StoreFileError

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_PART = ".part"
_LOCK = "lock"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Folder:
    """The bytes of files by their ids, which are names without a slash. Every method blocks, and raises `OSError`."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._unnamed: dict[str, int] = {}
        self._lock: int | None = None

    def begin(self, identity: str) -> int:
        """Make a file that has no name yet; return its descriptor, for `keep` or `drop`.

        Raises `StoreFileError` where the folder is not of this user and this process alone.
        """
        if self.path is None:
            with tempfile.TemporaryFile(buffering=0) as file:
                return os.dup(file.fileno())
        if not self.lock():
            raise StoreFileError(f"{self.path}: another service uses it; give each service a folder of its own")
        return os.open(self.path / (identity + _PART), os.O_RDWR | os.O_CREAT | os.O_TRUNC | _FLAGS, 0o600)

    def keep(self, identity: str, descriptor: int) -> None:
        """Put what was written on the disk, and give it its name; the descriptor is this object's once it is."""
        if self.path is None:
            self._unnamed[identity] = descriptor
            return
        os.fsync(descriptor)
        (self.path / (identity + _PART)).replace(self.path / identity)
        sync_folder(self.path)
        os.close(descriptor)

    def drop(self, identity: str, descriptor: int) -> None:
        """Give up what was begun."""
        os.close(descriptor)
        if self.path is not None:
            (self.path / (identity + _PART)).unlink(missing_ok=True)

    def open(self, identity: str) -> int:
        """Return a descriptor of a file, to read from its beginning; the caller closes it."""
        if self.path is not None:
            return os.open(self.path / identity, os.O_RDONLY | _FLAGS)
        if identity not in self._unnamed:
            raise FileNotFoundError(identity)
        # Through the process' own folder, for a copy of the descriptor would share its place in the file.
        return os.open(f"/proc/self/fd/{self._unnamed[identity]}", os.O_RDONLY | os.O_CLOEXEC)

    def remove(self, identity: str) -> None:
        """Remove a file, if it is there."""
        if self.path is not None:
            (self.path / identity).unlink(missing_ok=True)
        elif identity in self._unnamed:
            os.close(self._unnamed.pop(identity))

    def sweep(self, known: Iterable[str], older_than: float) -> None:
        """Remove what belongs to no id and was last written before a moment, in seconds since 1970."""
        if self.path is None or not self.path.exists():
            return
        kept = {_LOCK, *known}
        for file in self.path.iterdir():
            with suppress(FileNotFoundError):
                if file.name not in kept and file.lstat().st_mtime < older_than:
                    file.unlink()

    def lock(self) -> bool:
        """Have the folder for this process alone; return whether it has it. It is given back by `close`, or the end."""
        if self.path is None or self._lock is not None:
            return True
        self._make()
        descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._lock = descriptor
        return True

    def close(self) -> None:
        """Give the folder back; what has no name is gone."""
        for descriptor in (*self._unnamed.values(), *(() if self._lock is None else (self._lock,))):
            os.close(descriptor)
        self._unnamed, self._lock = {}, None

    def _make(self) -> None:
        if self.path is None:
            return
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self.path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & _OTHERS:
            raise StoreFileError(f"{self.path}: it is no folder of this user alone (mode 0700)")
