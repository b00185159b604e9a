"""File systems mounted for a test, where that is permitted: a small one to fill, one that is read-only."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount an empty file system of `size`, as in `1m`, at a folder."""
    folder.mkdir()
    with _mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield folder


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """Mount a folder over itself so that nothing, not even root, writes to it."""
    with _mounted(folder, "--bind", str(folder)):
        _run("mount", "-o", "remount,bind,ro", str(folder))
        yield folder


@contextmanager
def _mounted(folder: Path, *words: str) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    ended = _run("mount", *words, str(folder), check=False)
    if ended.returncode:
        pytest.skip(f"nothing can be mounted here: {ended.stderr.strip()}")
    try:
        yield
    finally:
        _run("umount", "--lazy", str(folder))


def _run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=check)
