"""The index that transformers makes of its models, kept in the cache folder.

Without it, each process that imports the library reads some 1,600 files for the names in them.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.engine import read_own, write_own

_log = logging.getLogger("gateway_hf")

# What is written here, and how it is spelled.
_FORMAT = 1
_LARGEST = 16 << 20
_BROKEN = (OSError, msgspec.MsgspecError, ValueError)

# The names of each module of a folder, by what has to be installed for them, and the same of the folders in it.
NamesIndex = dict[Any, Any]


class _KeptFolder(Struct, array_like=True):
    modules: list[tuple[list[str], dict[str, list[str]]]]
    folders: dict[str, "_KeptFolder"]


class KeptIndex:
    """Does as `make`, the library's own function; of `folder` it gives what an earlier process made.

    A file that is missing or broken, or that cannot be written, costs the time to make the index and nothing else.
    """

    def __init__(self, make: Callable[[Any], NamesIndex], folder: Path, cache: Path) -> None:
        self._make = make
        self._folder = folder
        self._file = _file(folder, cache)
        self._found: NamesIndex | None = None
        self._is_making = False

    def __call__(self, asked: Any) -> NamesIndex:  # noqa: ANN401 - whatever the library asks with
        """Return the index of a folder, or of that of a file."""
        path = Path(asked)
        path = path.parent if path.suffix else path
        if self._is_making or self._file is None or not path.is_relative_to(self._folder):
            return self._make(asked)
        found: Any = self._whole(self._file)
        for part in path.relative_to(self._folder).parts:
            found = found.get(part)
            if not isinstance(found, dict):
                return self._make(asked)
        return found  # type: ignore[no-any-return] # as the line before says

    def _whole(self, file: Path) -> NamesIndex:
        if self._found is None:
            self._found = _read(file)
        if self._found is None:
            self._is_making = True  # it asks itself for the folders in the folder
            try:
                self._found = self._make(str(self._folder))
            finally:
                self._is_making = False
            _write(file, self._found)
        return self._found


def _file(folder: Path, cache: Path) -> Path | None:
    """Name the file by the digests of all that was installed, and by what lies in the folder now; none without such."""
    try:
        installed = distribution(folder.parent.name)
        record = installed.read_text("RECORD")
        # Of what is installed to be edited, the record lists a link alone.
        lies_there = folder.samefile(str(installed.locate_file(f"{folder.parent.name}/{folder.name}")))
        changed = folder.stat().st_mtime_ns
    except (OSError, PackageNotFoundError):
        return None
    if not record or not lies_there:
        return None
    spelled = f"{_FORMAT}\0{folder}\0{changed}\0{record}"
    return cache / f"index-{hashlib.sha256(spelled.encode()).hexdigest()[:16]}"


def _read(file: Path) -> NamesIndex | None:
    try:
        found = read_own(file, _LARGEST)
        with suppress(OSError):  # a folder that cannot be written to is not cleared either
            os.utime(file)
        return _unpacked(msgspec.msgpack.decode(found, type=_KeptFolder))
    except FileNotFoundError:
        return None
    except _BROKEN as error:
        _log.warning(
            "the index of the library is made anew, for %s in the cache folder cannot be used: %s", file.name, error
        )
        return None


def _write(file: Path, index: NamesIndex) -> None:
    with suppress(OSError, TypeError, AttributeError):  # an index of another shape is made each time
        packed = _packed(index)
        if _unpacked(packed) == index:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_own(file, msgspec.msgpack.encode(packed))


def _packed(index: Mapping[Any, Any]) -> _KeptFolder:
    modules = [
        (sorted(key), {module: sorted(names) for module, names in each.items()})
        for key, each in index.items()
        if isinstance(key, frozenset)
    ]
    return _KeptFolder(modules, {key: _packed(each) for key, each in index.items() if isinstance(key, str)})


def _unpacked(kept: _KeptFolder) -> NamesIndex:
    folders: NamesIndex = {name: _unpacked(each) for name, each in kept.folders.items()}
    return folders | {
        frozenset(key): {module: set(names) for module, names in each.items()} for key, each in kept.modules
    }
