"""Folders for sockets and temporary files, which belong to one process and go with it, or at the next start.

Each has a file that its maker keeps locked (`flock`). The system releases the lock when the maker ends, however it
ends: a folder whose lock is free is a leftover, whatever process has the maker's id by now, and in whatever container.
"""

import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import suppress

_PREFIX = "llm-gateway-"
_LOCK = "lock"


class PrivateFolder:
    """A folder in the temporary one that only this user can enter, until it is removed."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix=_PREFIX)
        try:
            self._lock = _locked(self.path)
        except OSError:  # short of descriptors or of space
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def file(self, name: str) -> str:
        """Return the path of a file in it."""
        return os.path.join(self.path, name)  # noqa: PTH118 - sockets take texts

    def remove(self) -> None:
        """Remove it with all that is in it; again is no error."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def sweep(parent: str | None = None) -> None:
    """Remove the folders whose makers are gone, of this user only, and following no link; the rest is left alone."""
    try:
        root = os.open(parent or tempfile.gettempdir(), os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        for name in os.listdir(root):  # noqa: PTH208 - of the folder that is open
            if name.startswith(_PREFIX):
                _remove_leftover(name, root)
    finally:
        os.close(root)


def _locked(folder: str) -> int | None:
    """Lock a new file in the folder, and give it its name then; `None` where the file system takes no locks."""
    unnamed = os.path.join(folder, "unlocked")  # noqa: PTH118 - beside the line that opens it
    lock = os.open(unnamed, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(unnamed, os.path.join(folder, _LOCK))  # noqa: PTH104, PTH118
    except OSError:
        os.close(lock)
        return None
    return lock


def _remove_leftover(name: str, root: int) -> None:
    descriptors = []
    with suppress(OSError):
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
        descriptors.append(folder)
        status = os.fstat(folder)
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == stat.S_IRWXU:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            lock = os.open(_LOCK, flags, dir_fd=folder)
            descriptors.append(lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(name, ignore_errors=True, dir_fd=root)
    for descriptor in descriptors:
        os.close(descriptor)
