"""Files of this user alone: opened without following a link, and written whole or not at all."""

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

_WRITABLE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class ForeignFile(OSError):
    """A file or folder that another user could have written, or a link or device in its place."""

    def __init__(self, why: str, path: str | Path) -> None:
        super().__init__(errno.EPERM, why, str(path))


def open_own(path: str | Path, *, folder: int | None = None) -> int:
    """Open a file or folder for reading; return its descriptor, which the caller closes.

    `folder` is a descriptor that `path` is relative to. Raise `ForeignFile` unless it belongs to this user or to root
    and only its owner may write to it; another `OSError` where it cannot be opened.
    """
    # Without waiting: a pipe in a file's place has no writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ForeignFile("it is a symbolic link", path) from error
        raise
    if why := _foreign(os.fstat(descriptor)):
        os.close(descriptor)
        raise ForeignFile(why, path)
    return descriptor


def _foreign(status: os.stat_result) -> str:
    """Say why what was opened is not to be trusted; empty where it is."""
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        return "it is neither a file nor a folder"
    if status.st_uid not in (os.geteuid(), 0):
        return f"it belongs to another user ({status.st_uid})"
    if status.st_mode & _WRITABLE:
        return f"others may write to it (its mode is {stat.S_IMODE(status.st_mode):04o})"
    return ""


def not_private(status: os.stat_result) -> str:
    """Say why a file may hold no secret: it is no plain file, others may look into it; empty where it may."""
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file"
    if status.st_mode & _OTHERS:
        return f"its mode is {stat.S_IMODE(status.st_mode):04o}, so others may read it; it must be 0600"
    return "" if status.st_uid == os.geteuid() else "it belongs to another user"


def read_own(path: str | Path, most: int, *, folder: int | None = None) -> bytes:
    """Return the content of a file, `most` bytes of it; raise as `open_own`."""
    with os.fdopen(open_own(path, folder=folder), "rb") as file:
        return file.read(most)


def write_own(path: Path, content: bytes) -> None:
    """Write a file beside its name and move it there, on the disk before it has the name; raise `OSError`."""
    descriptor, half = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, path)  # noqa: PTH105 - the name is a string
    except BaseException:
        with suppress(OSError):
            os.unlink(half)  # noqa: PTH108 - as above
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put a folder's names on the disk; raise `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
