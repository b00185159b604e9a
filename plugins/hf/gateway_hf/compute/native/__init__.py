"""Kernels in C++ for the processor at hand: built once by the machine's own compiler, and never needed."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from gateway.engine import DiskCache, Hold, loading_step
from gateway_hf.compute.placement import processor_flags

_log = logging.getLogger("gateway_hf")
_FOLDER = Path(__file__).parent
_FLAGS = (
    *("-O3", "-march=native", "-std=c++20", "-shared", "-fPIC", "-pthread"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
)
_COMPILERS = ("c++", "g++", "clang++")
_BUILD_SECONDS = 300
# A library that is loaded stays so until the process ends.
_holds: list[Hold | None] = []


class NotBuiltError(Exception):
    """There are no kernels; the message says why."""


@functools.cache
def library(cache: Path) -> ctypes.CDLL:
    """Return the kernels, built into `cache` where they are not there yet; raise `NotBuiltError`."""
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    sources = sorted(_FOLDER.glob("*.h")) + sorted(_FOLDER.glob("*.cpp"))
    digest = hashlib.sha256("\0".join([*_FLAGS, platform.machine(), *sorted(processor_flags())]).encode())
    for source in sources:
        digest.update(source.read_bytes())
    built = cache / f"kernels-{digest.hexdigest()[:16]}.so"
    if not built.exists():
        if compiler is None:
            raise NotBuiltError("there is no C++ compiler")
        with loading_step(_log, "building kernels for this processor", "once, about 20 s"):
            _build(compiler, built)
    try:
        loaded = _declared(ctypes.CDLL(str(built)))
    except OSError as error:
        raise NotBuiltError(f"the kernels cannot be loaded: {error}") from error
    _holds.append(DiskCache(cache).hold(built))
    return loaded


def _build(compiler: str, built: Path) -> None:
    """Build beside the final name and move there, so that half a file is never loaded."""
    try:
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=built.parent) as folder:
            half = Path(folder, built.name)
            command = [compiler, *_FLAGS, "-o", str(half), str(_FOLDER / "kernels.cpp")]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)  # noqa: S603 - our own sources
            if done.returncode:
                first = next((line for line in done.stderr.splitlines() if "error" in line), "no message")
                raise NotBuiltError(f"{Path(compiler).name} cannot build the kernels: {first.strip()}")
            os.replace(half, built)  # noqa: PTH105 - atomic
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotBuiltError(f"the kernels cannot be built: {error}") from error


def _declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    loaded.kernels_new.restype = pointer
    loaded.kernels_new.argtypes = [integer]
    loaded.kernels_free.argtypes = [pointer]
    loaded.kernels_begin.argtypes = [pointer, pointer]
    loaded.kernels_advise.argtypes = [pointer, ctypes.c_size_t]
    loaded.kernels_layer.argtypes = [pointer, pointer, pointer, integer, pointer, pointer, pointer]
    loaded.kernels_linear.argtypes = [pointer, pointer, integer, pointer, integer, pointer]
    loaded.kernels_attend.argtypes = [pointer, pointer, pointer, integer, pointer, pointer, pointer, pointer]
    for name in ("advise", "begin", "layer", "linear", "attend", "free"):
        getattr(loaded, f"kernels_{name}").restype = None
    return loaded
