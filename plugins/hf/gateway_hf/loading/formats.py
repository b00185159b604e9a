"""Validate the headers of weight files before a library maps them."""

import itertools
import json
import math
import mmap
import struct
from pathlib import Path
from typing import Any

_MAX_HEADER = 100_000_000
_LENGTH = 8
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16,
    "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4,
}  # fmt: skip


class MalformedFile(ValueError):
    """A weights file contradicts its header; the message is one line."""


def check_safetensors(path: Path) -> list[tuple[int, ...]]:
    """Return the shapes of the tensors; raise `MalformedFile` unless they fill the file exactly.

    Layout: [0, 8) the header's length N, little-endian; [8, 8 + N) JSON; [8 + N, end) the tensors.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if size < _LENGTH or length > min(size - _LENGTH, _MAX_HEADER):
            raise MalformedFile(f"its header says {length} bytes, the file has {size}")
        header = _json(file.read(length))
    header.pop("__metadata__", None)
    end = 0
    for begin, stop in sorted(_extent(name, entry) for name, entry in header.items()):
        if begin != end:
            raise MalformedFile(f"its tensors overlap or leave a gap at byte {end}")
        end = stop
    if end != size - _LENGTH - length:
        raise MalformedFile(f"its tensors take {end} bytes, the file holds {size - _LENGTH - length}")
    return [tuple(entry["shape"]) for entry in header.values()]


def _json(raw: bytes) -> dict[str, Any]:
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedFile("its header is not JSON") from error
    if not isinstance(header, dict):
        raise MalformedFile("its header is not a JSON object")
    return header


def _extent(name: str, entry: Any) -> tuple[int, int]:  # noqa: ANN401 - a piece of JSON
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]} if (
            dtype in _BITS and 0 <= begin <= end and all(type(size) is int and size >= 0 for size in shape)
        ):
            if (end - begin) * 8 != math.prod(shape) * _BITS[dtype]:
                raise MalformedFile(f"the tensor {name[:80]!r} is not as long as its shape says")
            return begin, end
        case _:
            raise MalformedFile(f"its header's entry {name[:80]!r} makes no sense")


# GGUF value types; 8 is a string and 9 an array.
_FIXED = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY, _UINT32 = 8, 9, 4
_WHOLE = {_UINT32: "<I", 5: "<i", 10: "<Q"}
_TYPE_AND_OFFSET = 4 + 8
_MAX_NESTING = 3
_MAX_DIMENSIONS = 8
_SHORTEST = 24
_ALIGNMENT = b"general.alignment"


class _GgufReader:
    """Walks a GGUF header; every read is checked against the end of the file."""

    def __init__(self, file: mmap.mmap) -> None:
        self._file = file
        self._at = 0

    def number(self, form: str) -> int:
        start = self.skip(struct.calcsize(form))
        return int(struct.unpack_from(form, self._file, start)[0])

    def count(self) -> int:
        """Read how many things follow; each takes a byte at least."""
        count = self.number("<Q")
        if count > len(self._file):
            raise MalformedFile("it ends inside its header")
        return count

    def text(self) -> bytes:
        start = self.skip(self.number("<Q"))
        return self._file[start : self._at]

    def skip(self, count: int) -> int:
        start = self._at
        if count > len(self._file) - start:
            raise MalformedFile("it ends inside its header")
        self._at += count
        return start

    def skip_value(self, kind: int, depth: int = 0) -> None:
        if kind in _FIXED:
            self.skip(_FIXED[kind])
        elif kind == _STRING:
            self.skip(self.number("<Q"))
        elif kind == _ARRAY and depth < _MAX_NESTING:
            item, count = self.number("<I"), self.count()
            if item in _FIXED:
                self.skip(_FIXED[item] * count)
                return
            for _ in itertools.repeat(None, count):
                self.skip_value(item, depth + 1)
        else:
            raise MalformedFile(f"its header has a value of the unknown type {kind}")

    @property
    def at(self) -> int:
        return self._at


def check_gguf(path: Path) -> None:
    """Raise `MalformedFile` unless magic and version are known and every tensor lies inside the file.

    Layout: magic, version, number of tensors, number of values; the values; the tensors' names, shapes, types and
    offsets; then, aligned, the tensors.
    """
    if path.stat().st_size < _SHORTEST:
        raise MalformedFile("it is too short for a GGUF file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        reader = _GgufReader(mapped)
        if mapped[reader.skip(4) : 4] != b"GGUF":
            raise MalformedFile("it does not begin with the GGUF magic")
        if (version := reader.number("<I")) not in (2, 3):
            raise MalformedFile(f"its GGUF version {version} is none of 2 and 3")
        tensors, values = reader.count(), reader.count()
        alignment = _walk_values(reader, values)
        ends = [_tensor_end(reader) for _ in itertools.repeat(None, tensors)]
        begin = -(-reader.at // alignment) * alignment
        if not ends or begin + max(ends) > len(mapped):
            raise MalformedFile(f"its tensors need {begin + max(ends, default=0)} bytes, the file has {len(mapped)}")


def read_gguf(path: Path) -> tuple[int, dict[str, int]]:
    """Return how many numbers the tensors of a GGUF file have, and its values that are whole numbers.

    Raises `MalformedFile`.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        reader = _GgufReader(mapped)
        if mapped[reader.skip(4) : 4] != b"GGUF":
            raise MalformedFile("it does not begin with the GGUF magic")
        reader.number("<I")
        tensors, count, values = reader.count(), reader.count(), dict[str, int]()
        for _ in itertools.repeat(None, count):
            key, kind = reader.text(), reader.number("<I")
            if kind in _WHOLE:
                values[key.decode(errors="replace")] = reader.number(_WHOLE[kind])
            else:
                reader.skip_value(kind)
        numbers = 0
        for _ in itertools.repeat(None, tensors):
            reader.text()
            numbers += math.prod(reader.number("<Q") for _ in range(min(reader.number("<I"), _MAX_DIMENSIONS)))
            reader.skip(_TYPE_AND_OFFSET)
        return numbers, values


def _walk_values(reader: _GgufReader, count: int) -> int:
    """Skip the values and return the alignment they ask for."""
    alignment = 32
    for _ in itertools.repeat(None, count):
        key, kind = reader.text(), reader.number("<I")
        if key == _ALIGNMENT and kind == _UINT32:
            alignment = reader.number("<I")
        else:
            reader.skip_value(kind)
    if alignment < 1 or alignment & (alignment - 1):
        raise MalformedFile(f"its alignment {alignment} is no power of two")
    return alignment


def _tensor_end(reader: _GgufReader) -> int:
    """Return where a tensor ends, counted from the first one."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType  # noqa: PLC0415 - only GGUF files need it

    reader.text()
    dimensions = reader.number("<I")
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise MalformedFile(f"a tensor has {dimensions} dimensions")
    count = math.prod(reader.number("<Q") for _ in range(dimensions))
    kind, offset = reader.number("<I"), reader.number("<Q")
    if kind not in GGMLQuantizationType.__members__.values():
        raise MalformedFile(f"a tensor has the unknown type {kind}")
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    if count % block:
        raise MalformedFile(f"a tensor of {count} numbers is not made of blocks of {block}")
    return offset + count // block * size
