"""Read the metadata of a GGUF file, and none of its tensors.

The format is described in ggml's docs/gguf.md. The package `gguf` reads it too, value by value into arrays of numpy,
which takes seconds for a vocabulary of usual size.
"""

import hashlib
import mmap
import struct
from pathlib import Path

from gateway.engine import LoadFailed

_MAGIC = b"GGUF"
_VERSIONS = frozenset({2, 3})
# GGUF's numbers for the types of a value.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_KEYS = 1 << 16
_MOST_ITEMS = 1 << 24

GgufScalar = bool | int | float | str
Value = GgufScalar | list[bytes] | tuple[GgufScalar, ...]


class GgufHeader:
    """The metadata of one file by key; strings in an array are left as bytes. `digest` is of all of it."""

    def __init__(self, path: Path) -> None:
        """Read the file's beginning; raise `LoadFailed` where it is no GGUF file, or cut."""
        self.name = path.name
        self.values: dict[str, Value] = {}
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                end = self._read(data)
                self.digest = hashlib.sha256(data[:end]).hexdigest()
        except OSError as error:
            raise LoadFailed(f"the GGUF file '{path.name}' cannot be read: {error.strerror}") from error
        except (struct.error, ValueError, IndexError, OverflowError) as error:
            raise LoadFailed(f"the file '{path.name}' is no whole GGUF file") from error

    def text(self, key: str) -> str:
        """Return the string of a key, or an empty one."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> float | None:
        """Return the number of a key, if there is one."""
        value = self.values.get(key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def own_number(self, key: str) -> float | None:
        """Return the number of a key of the file's architecture: `context_length` for `llama.context_length`."""
        return self.number(f"{self.text('general.architecture')}.{key}")

    def _read(self, data: mmap.mmap) -> int:
        """Read all keys; return where the metadata ends."""
        magic, version, _, keys = struct.unpack_from("<4sIQQ", data, 0)
        if magic != _MAGIC or version not in _VERSIONS or keys > _MOST_KEYS:
            raise ValueError(self.name)
        at = 24
        for _ in range(keys):
            name, at = _string(data, at)
            (kind,) = struct.unpack_from("<I", data, at)
            self.values[name.decode()], at = _value(data, at + 4, kind)
        return at


def _string(data: mmap.mmap, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    begin, end = at + 8, at + 8 + length
    if end > len(data):
        raise ValueError(end)
    return data[begin:end], end


def _value(data: mmap.mmap, at: int, kind: int) -> tuple[Value, int]:
    if kind == _STRING:
        text, at = _string(data, at)
        return text.decode(errors="replace"), at
    if kind == _ARRAY:
        item, count = struct.unpack_from("<IQ", data, at)
        return _array(data, at + 12, item, count)
    (number,) = struct.unpack_from(f"<{_NUMBERS.get(kind, '')}", data, at)
    return number, at + struct.calcsize(f"<{_NUMBERS[kind]}")


def _array(data: mmap.mmap, at: int, item: int, count: int) -> tuple[Value, int]:
    if count > _MOST_ITEMS or item == _ARRAY:
        raise ValueError(count)
    if item == _STRING:
        texts = []
        for _ in range(count):
            text, at = _string(data, at)
            texts.append(text)
        return texts, at
    layout = f"<{count}{_NUMBERS.get(item, '')}"
    return struct.unpack_from(layout, data, at), at + struct.calcsize(layout)
