"""Lists as the commands print them: columns for people, JSON for programs."""

from collections.abc import Iterable, Sequence

import msgspec


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their columns, each as wide as its widest cell."""
    lines = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    print(msgspec.json.format(msgspec.json.encode(value)).decode())


def size(count: float) -> str:
    """Say a number of bytes in the unit that fits."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1 << 10:
            return f"{count:.0f} {unit}"
        count /= 1 << 10
    return f"{count:.1f} GiB"
