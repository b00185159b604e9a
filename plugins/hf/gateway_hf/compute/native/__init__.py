"""Kernels in C++ for the processor at hand: built once by the machine's own compiler, and never needed."""

import ctypes
import functools
import hashlib
import logging
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from gateway.engine import DiskCache, Hold, loading_step, obtain
from gateway_hf.compute.processor import processor_flags

_log = logging.getLogger("gateway_hf")
_FOLDER = Path(__file__).parent
_FLAGS = (
    *("-O3", "-march=native", "-std=c++20", "-shared", "-fPIC", "-fvisibility-inlines-hidden", "-pthread"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
)
_COMPILERS = ("c++", "g++", "clang++")
_BUILD_SECONDS = 300
_LIBRARY = "kernels.so"
# A library that is loaded stays so until the process ends.
_holds: list[Hold] = []
_begun: dict[Path, Future[ctypes.CDLL]] = {}


class NotBuiltError(Exception):
    """There are no kernels; the message says why."""


def begin(cache: Path) -> None:
    """Begin in another thread what `library` does with this folder, which then waits for it."""
    if cache in _begun:
        return
    _begun[cache] = outcome = Future[ctypes.CDLL]()
    # The process may end while a compiler runs.
    threading.Thread(target=_settle, args=(outcome, cache), name="kernels", daemon=True).start()


def is_beginning(cache: Path) -> bool:
    """Say whether another thread still builds or reads the kernels of this folder."""
    return cache in _begun and not _begun[cache].done()


@functools.cache
def library(cache: Path) -> ctypes.CDLL:
    """Return the kernels, built into `cache` where they are not there yet; raise `NotBuiltError`.

    Where they cannot be kept there, they are built for this process alone.
    """
    begun = _begun.pop(cache, None)
    return _obtained(cache) if begun is None else begun.result()


def _settle(outcome: Future[ctypes.CDLL], cache: Path) -> None:
    try:
        outcome.set_result(_obtained(cache))
    except BaseException as error:  # noqa: BLE001 - it is raised where the kernels are wanted
        outcome.set_exception(error)


def _obtained(cache: Path) -> ctypes.CDLL:
    try:
        kept = obtain(DiskCache(cache), "kernels", {"sources": digest()}, _build)
    except OSError as error:
        _log.warning("the kernels are built for this process alone: the folder %s: %s", cache, error.strerror)
        return _built_alone()
    loaded = _loaded(kept.hold.folder)
    _holds.append(kept.hold)
    return loaded


def digest() -> str:
    """Digest all that the library depends on: its sources, and what the processor can do."""
    found = hashlib.sha256("\0".join([*_FLAGS, platform.machine(), *sorted(processor_flags())]).encode())
    for source in sorted(_FOLDER.glob("*.h")) + sorted(_FOLDER.glob("*.cpp")):
        found.update(source.read_bytes())
    return found.hexdigest()


def _built_alone() -> ctypes.CDLL:
    with _temporary() as folder:
        try:
            _build(folder)
        except OSError as error:
            raise NotBuiltError(f"the kernels cannot be built: {error}") from error
        return _loaded(folder)  # what is loaded needs its file no more


def _loaded(folder: Path) -> ctypes.CDLL:
    try:
        return _declared(ctypes.CDLL(str(folder / _LIBRARY)))
    except OSError as error:
        raise NotBuiltError(f"the kernels cannot be loaded: {error}") from error


def _build(folder: Path) -> None:
    """Build the library into a folder; raise `NotBuiltError`, or `OSError` where the folder cannot be written to."""
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        raise NotBuiltError("there is no C++ compiler")
    # A compiler follows the links that it meets: it writes where no other user can put one.
    with loading_step(_log, "building kernels for this processor", "once, about 20 s"), _temporary() as own:
        built = own / _LIBRARY
        command = [compiler, *_FLAGS, "-o", str(built), str(_FOLDER / "kernels.cpp")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)  # noqa: S603 - our own sources
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotBuiltError(f"the kernels cannot be built: {error}") from error
        if done.returncode:
            first = next((line for line in done.stderr.splitlines() if "error" in line), "no message")
            raise NotBuiltError(f"{Path(compiler).name} cannot build the kernels: {first.strip()}")
        shutil.copyfile(built, folder / _LIBRARY)


@contextmanager
def _temporary() -> Iterator[Path]:
    """Give a folder that only this user can write to; raise `NotBuiltError` where there can be none."""
    try:
        made = tempfile.TemporaryDirectory(prefix="llm-gateway-kernels-")
    except OSError as error:
        raise NotBuiltError(f"the kernels cannot be built: {error}") from error
    with made as folder:
        yield Path(folder)


def _declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    loaded.kernels_new.restype = pointer
    loaded.kernels_new.argtypes = [integer]
    loaded.kernels_free.argtypes = [pointer]
    loaded.kernels_begin.argtypes = [pointer, pointer]
    loaded.kernels_advise.argtypes = [pointer, ctypes.c_size_t]
    loaded.kernels_layers.argtypes = [pointer, pointer, integer, pointer, integer, pointer, pointer, pointer]
    loaded.kernels_linear.argtypes = [pointer, pointer, integer, pointer, integer, pointer]
    loaded.kernels_draw.argtypes = [pointer, pointer, integer, pointer, integer, pointer]
    loaded.kernels_attend.argtypes = [pointer, pointer, pointer, integer, pointer, pointer, pointer, pointer]
    loaded.kernels_adapt.argtypes = [pointer, pointer, integer]
    loaded.kernels_change.argtypes = [pointer, pointer, pointer, integer, pointer, integer]
    loaded.kernels_encode.argtypes = [pointer, pointer, integer, pointer, integer, pointer]
    for name in ("adapt", "advise", "attend", "begin", "change", "draw", "encode", "free", "layers", "linear"):
        getattr(loaded, f"kernels_{name}").restype = None
    return loaded
