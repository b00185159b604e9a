"""The SHA-256 sums that a model came with: beside it in `SHA256SUMS`, or as the names in the Hub's cache."""

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway.engine import LoadFailed

SUMS = "SHA256SUMS"
_LARGEST = 1 << 20
# As `sha256sum` writes it: a star marks a file that was read as binary.
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
_SUM = re.compile(r"[0-9a-f]{64}")


def check_sums(folder: Path, weights: list[str], name: str) -> None:
    """Raise `LoadFailed` unless each file has the sum that it came with; a file without one is not read.

    `SHA256SUMS` must list the weights, and may list other files of the folder.
    """
    listed = _listed(folder)
    if listed and (unlisted := [file for file in weights if file not in listed]):
        raise LoadFailed(f"the weights file '{unlisted[0]}' of the model '{name}' is not listed in its {SUMS}")
    expected = {file: known for file in weights if (known := _hub_sum(folder / file))}
    expected |= {file: known for file, known in listed.items() if (folder / file).is_file()}
    with ThreadPoolExecutor(os.cpu_count() or 1, "sum") as pool:
        found = dict(zip(expected, pool.map(lambda file: sum_of(folder / file), expected), strict=True))
    if damaged := [file for file in expected if found[file] != expected[file]]:
        where = f"in its {SUMS}" if damaged[0] in listed else "that the hub gave; remove it from the hub's cache"
        raise LoadFailed(
            f"the file '{damaged[0]}' of the model '{name}' is damaged: its SHA-256 is not the one {where}"
        )


def listed_sum(file: Path) -> str | None:
    """Return the sum that `SHA256SUMS` beside a file lists for it; `None` where it lists none."""
    return _listed(file.parent).get(file.name)


def sum_of(file: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal; raise `LoadFailed` where it cannot be read."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise LoadFailed(f"the file '{file.name}' cannot be read: {error.strerror}") from error


def _listed(folder: Path) -> dict[str, str]:
    """Return the sums by the names of the files in the folder; raise `LoadFailed` for a list that is none."""
    try:
        with (folder / SUMS).open(encoding="utf-8") as file:
            lines = file.read(_LARGEST).splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LoadFailed(f"the file {SUMS} beside the model cannot be read") from error
    found = [_LINE.fullmatch(line) for line in lines if line.strip()]
    if not found or None in found:
        raise LoadFailed(f"the file {SUMS} beside the model is not a list as sha256sum writes it")
    return {match[2].removeprefix("./"): match[1].lower() for match in found if match is not None}


def _hub_sum(file: Path) -> str | None:
    """Return the sum of a large file in the Hub's cache: such a file is a link to one with the sum as its name."""
    real = file.resolve()
    return real.name if real.parent.name == "blobs" and _SUM.fullmatch(real.name) else None
