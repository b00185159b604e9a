"""Folders that are made once, kept in a cache, and used only as they were made.

A marker in the folder has the digest of each file. The files, the folder and its name are on the disk before the folder
has its name, so a machine that stops leaves all of it or nothing.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from gateway.engine.digests import FileDigest, digests
from gateway.engine.disk_cache import DiskCache, Hold
from gateway.engine.own_files import open_own, read_own, sync_folder

_LOG = logging.getLogger(__name__)
_MARKER = "made.json"
_MOST_MARKER = 1 << 20
# What there may be at a lock's name, in a folder where others may write: links, folders, pipes, files of others.
_IN_THE_WAY = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM})
_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST})
_CLOSED = ~(stat.S_IWGRP | stat.S_IWOTH)


class Artifact(NamedTuple):
    """A folder that is whole and in use until `hold` is closed; `is_new` if it was made just now, of its `origin`.

    Read it by `hold.folder`, which no other user can put another folder in the place of.
    """

    folder: Path
    hold: Hold
    is_new: bool
    origin: Mapping[str, str | int]


class _Marker(Struct, frozen=True):
    """What an artifact was made of, and the digests of its files."""

    origin: dict[str, str | int]
    files: dict[str, FileDigest]


class _DamagedError(Exception):
    """An artifact is not as it was made; the message says how."""


def obtain(cache: DiskCache, name: str, origin: Mapping[str, str | int], make: Callable[[Path], None]) -> Artifact:
    """Return the artifact of an origin; `make` fills a folder with it where it is missing or damaged.

    `origin` is all that the content depends on. An artifact of the same origin is found under any `name`. One that is
    whole is only read. Of two processes at once, one makes it and the other waits. Raise `OSError` where the folder of
    the cache cannot be written to, and what `make` raises.
    """
    key = _key(origin)
    if found := _find(cache, key, origin, _LOG.warning):
        return found
    cache.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(cache.folder / f".{key}.lock"):
        # Told already; by now another process may have mended it.
        if found := _find(cache, key, origin, _LOG.debug):
            return found
        try:
            return _make(cache, name, key, origin, make)
        except OSError as error:
            # Without a lock, another process may have been faster.
            if error.errno in _TAKEN and (found := _find(cache, key, origin, _LOG.debug)):
                return found
            raise


def recall(
    cache: DiskCache, origin: Mapping[str, str | int], prepare: Callable[[int], None] = lambda _: None
) -> Artifact | None:
    """Return the artifact of an origin as `obtain` does, where it is there and whole, else `None`.

    `prepare` is called with the descriptor of each file before it is read.
    """
    return _find(cache, _key(origin), origin, _LOG.warning, prepare)


def _key(origin: Mapping[str, str | int]) -> str:
    return hashlib.sha256(json.dumps(dict(origin), sort_keys=True).encode()).hexdigest()[:16]


def _find(
    cache: DiskCache,
    key: str,
    origin: Mapping[str, str | int],
    tell: Callable[..., None],
    prepare: Callable[[int], None] = lambda _: None,
) -> Artifact | None:
    for path in _named(cache.folder, key):
        try:
            hold = cache.open(path)
            _check(hold, origin, prepare)
        except (OSError, _DamagedError) as error:
            tell("%s in the cache folder is not used, and made anew: %s", path.name, _reason(error, path))
        else:
            return Artifact(path, hold, is_new=False, origin=origin)
    return None


def _named(folder: Path, key: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"*-{key}") if not path.name.startswith("."))


def _reason(error: Exception, path: Path) -> str:
    """Say what is wrong with an artifact, and with which of its files."""
    if not isinstance(error, OSError):
        return str(error)
    why = error.strerror or "it cannot be read"
    return why if error.filename in (None, str(path)) else f"{error.filename}: {why}"


def _check(hold: Hold, origin: Mapping[str, str | int], prepare: Callable[[int], None]) -> None:
    """Raise `_DamagedError` or `OSError` unless every file is this user's and as it was made."""
    try:
        marker = msgspec.json.decode(read_own(_MARKER, _MOST_MARKER, folder=hold.descriptor), type=_Marker)
    except (FileNotFoundError, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _DamagedError(f"its {_MARKER} is missing or cannot be read") from error
    found = _digests(hold, prepare)
    if marker.origin != origin:
        raise _DamagedError(f"its {_MARKER} is of something else")
    if missing := sorted(marker.files.keys() - found.keys()):
        raise _DamagedError(f"{missing[0]} is missing")
    if changed := sorted(name for name in found if found[name] != marker.files.get(name)):
        raise _DamagedError(f"{changed[0]} is not as it was written")


def _digests(hold: Hold, prepare: Callable[[int], None] = lambda _: None) -> dict[str, FileDigest]:
    """Digest all files but the marker, after `prepare` for each; raise `OSError`."""
    with ExitStack() as opened:
        descriptors = dict[str, int]()
        for name in _files(hold.descriptor):
            descriptors[name] = open_own(name, folder=hold.descriptor)
            opened.callback(os.close, descriptors[name])
            prepare(descriptors[name])
        return digests(descriptors)


def _files(folder: int) -> list[str]:
    """List the files by their paths inside, without following links."""
    walk = os.fwalk(".", dir_fd=folder, follow_symlinks=False)
    found = (os.path.normpath(f"{root}/{file}") for root, _, files, _ in walk for file in files)
    return sorted(file for file in found if file != _MARKER)


def _make(
    cache: DiskCache, name: str, key: str, origin: Mapping[str, str | int], make: Callable[[Path], None]
) -> Artifact:
    """Make the artifact in a folder that gets its name at once and whole, or is removed; call it under the lock."""
    for damaged in _named(cache.folder, key):
        cache.discard(damaged)
    for half in cache.folder.glob(f".*-{key}.*.part"):
        cache.remove(half)
    # Another user's, in a folder where only owners may remove what is theirs, stays.
    free = (path for path in (cache.folder / f"{each}-{key}" for each in (name, f"{name}.{os.geteuid()}")))
    folder = next((path for path in free if not os.path.lexists(path)), cache.folder / f"{name}-{key}")
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=cache.folder))
    try:
        hold = cache.open(part)
        make(hold.folder)
        _seal(hold, origin)
        part.rename(folder)
        sync_folder(cache.folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return Artifact(folder, hold, is_new=True, origin=origin)


def _seal(hold: Hold, origin: Mapping[str, str | int]) -> None:
    """Write the marker, and put all on the disk."""
    for name in _files(hold.descriptor):  # a library may have written by a mask that lets others in
        path = hold.folder / name
        path.chmod(path.stat().st_mode & _CLOSED)
    marker = _Marker(dict(origin), _digests(hold, os.fsync))
    with os.fdopen(
        os.open(_MARKER, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=hold.descriptor), "wb"
    ) as file:
        file.write(msgspec.json.format(msgspec.json.encode(marker)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.fsync(hold.descriptor)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Hold the lock; the system releases it when the process dies.

    It saves making something twice, and nothing more: what another user put at its name is passed by.
    """
    descriptor = _locked(file)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked(file: Path) -> int | None:
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _IN_THE_WAY:
            raise
        _LOG.warning("the lock %s is not used: %s", file, error.strerror)
        return None
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        _LOG.warning("the lock %s is not used: it is not a file of this user", file)
        return None
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor
