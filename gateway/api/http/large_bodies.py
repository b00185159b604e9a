"""Large bodies, in and out: they share a part of the event loop's time, and leave the rest to all others."""

from gateway.flow.turns import Turns

# Bytes a second: each takes the loop some 5 to 10 ns, so it is free for others most of the time.
turns = Turns(rate=32 * 2**20)
# A body counts twice: it is read, and handed on to an engine.
PASSES = 2

# An object takes the loop some 3 µs, a value in a list or an object a tenth: as long as so many bytes of text.
_OBJECT, _VALUE = 128, 8
# Of fewer bytes nothing can be made that holds the loop up.
_SMALL = 16 * 1024
# Bytes to look for a mark in, before its marks are counted.
_WINDOW = 64 * 1024


def weigh(raw: bytes) -> int:
    """Return how many bytes of plain text take as long to read as this JSON."""
    size = len(raw)
    return size if size <= _SMALL else size + _OBJECT * count(raw, b"{") + _VALUE * count(raw, b",")


def count(raw: bytes, mark: bytes) -> int:
    """Count a letter; `bytes.count` looks at each byte by itself, `find` at many at once, so it passes over windows."""
    if len(raw) <= _WINDOW:
        return raw.count(mark)
    windows = range(0, len(raw), _WINDOW)
    return sum(raw.count(mark, at, at + _WINDOW) for at in windows if raw.find(mark, at, at + _WINDOW) >= 0)
