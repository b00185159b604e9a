"""A cache folder for a plugin's files: bounded in size, and never cleared of entries in use.

Each entry is a file or a folder right inside. A process that uses one holds a shared lock on it (`flock`), which the
system releases when the process ends; an entry is removed only under an exclusive lock.
"""

import errno
import fcntl
import os
import shutil
import weakref
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from gateway.engine.own_files import open_own

# Beginnings of names in the folder that are no entries: locks, and what is half made.
_HIDDEN = "."
_REMOVED = ".removed-"
_HALF = ".part"


class CacheEntry(Struct, frozen=True):
    """A file or folder in a cache: size in bytes, time of last use (seconds since 1970), and whether it is in use."""

    path: Path
    size: int
    used_at: float
    in_use: bool


class Hold:
    """A shared lock on an entry, until it is closed or garbage-collected; `descriptor` is the open entry."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self.close = weakref.finalize(self, os.close, descriptor)
        self._path = path

    @property
    def folder(self) -> Path:
        """The entry as it was opened, whatever has its name by now, for this process while it holds it."""
        opened = Path(f"/proc/self/fd/{self.descriptor}")
        return opened if opened.exists() else self._path


class DiskCache:
    """The cache in one folder, which need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> list[CacheEntry]:
        """List the entries, most recently used first."""
        found = [entry for path in self._visible() if (entry := _described(path)) is not None]
        return sorted(found, key=lambda entry: entry.used_at, reverse=True)

    def open(self, path: Path) -> Hold:
        """Open and lock an entry and record its use; raise as `open_own`, or `FileNotFoundError` if it has gone."""
        hold = Hold(open_own(path), path)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(hold.descriptor, fcntl.LOCK_SH)
        if not _is_at(path, hold.descriptor):
            raise FileNotFoundError(errno.ENOENT, "it was removed just now", str(path))
        with suppress(OSError):  # a folder that cannot be written to is not cleared either
            os.utime(hold.descriptor)
        return hold

    def hold(self, path: Path) -> Hold | None:
        """Lock an entry as `open` does; return None where that fails."""
        try:
            return self.open(path)
        except OSError:
            return None

    def discard(self, path: Path) -> bool:
        """Remove an entry that is of no use, even to those that use it; return False if it cannot be removed."""
        try:
            # Moved first: a removal that is interrupted leaves no half of an entry under its name.
            moved = path.rename(path.with_name(f"{_REMOVED}{path.name}-{os.getpid()}"))
            _delete(moved)
        except OSError:
            return False
        return True

    def remove(self, path: Path) -> bool:
        """Remove an entry; return False if it is in use or cannot be removed."""
        descriptor = _locked(path)
        if descriptor is None:
            return not path.exists()
        try:
            return self.discard(path)
        finally:
            os.close(descriptor)

    def clear(self) -> list[CacheEntry]:
        """Remove all entries not in use, and partial ones; return the entries that stay."""
        for left in (*self.folder.glob(f"{_REMOVED}*"), *self.folder.glob(f".*{_HALF}")):
            self.remove(left)
        return [entry for entry in self.entries() if not self.remove(entry.path)]

    def shrink(self, most: int) -> list[CacheEntry]:
        """Remove the least recently used entries until the rest has at most `most` bytes; return those removed."""
        entries, removed = self.entries(), list[CacheEntry]()
        size = sum(entry.size for entry in entries)
        for entry in reversed(entries):
            if size <= most:
                break
            if self.remove(entry.path):
                removed.append(entry)
                size -= entry.size
        return removed

    def _visible(self) -> list[Path]:
        try:
            return [path for path in self.folder.iterdir() if not path.name.startswith(_HIDDEN)]
        except OSError:
            return []


def _described(path: Path) -> CacheEntry | None:
    """Describe an entry; None where it has just gone."""
    try:
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        size = sum(file.stat().st_size for file in files)
        used_at = path.stat().st_mtime
    except OSError:
        return None
    free = _locked(path)
    if free is not None:
        os.close(free)
    return CacheEntry(path, size, used_at, in_use=free is None)


def _locked(path: Path) -> int | None:
    """Open and lock an entry for this process alone; return its descriptor, or None if it is gone or in use."""
    try:
        # Without waiting: a pipe in an entry's place has no writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(path, descriptor):
            return descriptor
    os.close(descriptor)
    return None


def _is_at(path: Path, descriptor: int) -> bool:
    there, own = path.lstat(), os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
