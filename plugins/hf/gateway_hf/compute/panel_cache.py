"""Packed weights in the cache folder: a later start maps them instead of packing, and processes share the memory."""

import logging
import mmap
import os
import shutil
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from io import RawIOBase
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec import Struct
from torch import Tensor

from gateway.engine import Artifact, DiskCache, obtain, recall
from gateway_hf.compute.kernels import Format, Kernels, Linear
from gateway_hf.compute.packed import PANEL_DTYPES, Packed

_log = logging.getLogger("gateway_hf")

# Counts up when what is written here, or how weights are packed, changes.
_FORMAT = 4
# Of a weight, beside its tensors.
_NUMBERS = ("format", "columns", "depth", "group", "narrow")
_INDEX, _PANELS = "index.json", "panels.bin"
# Where tensors begin: at a line of the processor's caches.
_LINE = 64
# Bytes of weights that are packed faster than it is worth to keep them, and of a disk that are left free.
_LEAST, _FREE = 64 << 20, 1 << 30
# Bytes that are written at once.
_PIECE = 8 << 20
# Asks for all pages of a mapping at once (Linux 5.14).
_POPULATE_READ = 22


class _KeptTensor(Struct, frozen=True, array_like=True):
    field: str
    begin: int
    size: int


class _KeptWeight(Struct, frozen=True):
    format: int
    columns: int
    depth: int
    group: int
    narrow: int
    tensors: list[_KeptTensor]


class _Index(Struct, frozen=True):
    change: str
    weights: list[_KeptWeight]


class KeptPanels:
    """The packed weights of an earlier start, mapped; they stay in the cache folder while one of them is in use."""

    def __init__(self, cache: DiskCache, artifact: Artifact, kernels: Kernels) -> None:
        folder = artifact.hold.folder
        self._cache = cache
        self._artifact = artifact
        self._index = msgspec.json.decode((folder / _INDEX).read_bytes(), type=_Index)
        self.change = self._index.change
        path = folder / _PANELS
        self._bytes = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
        kernels.advise(self._bytes)

    def weights(self) -> Iterator[Packed]:
        """Yield them in the order in which they were packed."""
        for each in self._index.weights:
            struct = Linear(**{field: getattr(each, field) for field in _NUMBERS})
            tensors = {kept.field: self._tensor(each.format, kept) for kept in each.tensors}
            yield Packed.of(struct, tensors, self._artifact.hold)

    def discard(self) -> None:
        """Remove them from the folder: the model says something else with them."""
        _log.warning("the packed weights in %s are not used, and made anew", self._artifact.folder.name)
        self._cache.discard(self._artifact.folder)

    def _tensor(self, form: int, kept: _KeptTensor) -> Tensor:
        dtypes = {"panels": PANEL_DTYPES[Format(form)], "sums": torch.int32}
        return self._bytes[kept.begin : kept.begin + kept.size].view(dtypes.get(kept.field, torch.float32))


class PanelCache:
    """The place of one model's packed weights in a cache folder of at most so many bytes, by all they depend on."""

    def __init__(self, folder: Path, name: str, origin: Mapping[str, str], most: int, least: int = _LEAST) -> None:
        self._cache = DiskCache(folder)
        self._name = f"{name}-panels"
        self._origin: dict[str, str | int] = {**origin, "panels": _FORMAT}
        self._most = most
        self._least = least

    def find(self, kernels: Kernels) -> KeptPanels | None:
        """Return what an earlier start kept; `None` where there is nothing, or it is damaged."""
        artifact = recall(self._cache, self._origin, _fetch)
        if artifact is None:
            return None
        try:
            return KeptPanels(self._cache, artifact, kernels)
        except (OSError, RuntimeError, msgspec.DecodeError) as error:
            _log.warning("the packed weights in %s are not used: %s", artifact.folder.name, error)
            return None

    def keep_later(self, change: str, made: Sequence[Packed]) -> threading.Thread | None:
        """Write weights in a thread beside the first answers; none are written that are few, or that have no room.

        A model that is unloaded meanwhile is not held, and its half of a folder is removed.
        """
        size = sum(_room(tensor) for packed in made for tensor in packed.tensors.values())
        if not self._least <= size <= self._most // 2:
            return None
        # The process may end meanwhile: half of a folder is removed by the next that writes it.
        held = [weakref.ref(packed) for packed in made]
        thread = threading.Thread(target=self._keep, args=(change, held, size), name="panels", daemon=True)
        thread.start()
        return thread

    def _keep(self, change: str, held: Sequence[weakref.ref[Packed]], size: int) -> None:
        def write(folder: Path) -> None:
            free = shutil.disk_usage(folder).free
            if free < size + _FREE:
                raise OSError(f"they take {size >> 20} MiB, and {free >> 20} are free")
            with (folder / _PANELS).open("xb", buffering=0) as file:
                writer = _PieceWriter(file)
                index = _Index(change, [_written(writer, each()) for each in held])
                writer.finish()
            (folder / _INDEX).write_bytes(msgspec.json.encode(index))

        try:
            self._cache.shrink(self._most - size)  # before: a volume may have room for no more than that
            obtain(self._cache, self._name, self._origin, write).hold.close()
        except OSError as error:
            _log.info("the packed weights are not kept, and packed again at the next start: %s", error)


class _PieceWriter:
    """Writes a file in whole pieces of many large pages: so the system has it in such pages, as it is mapped."""

    def __init__(self, file: RawIOBase) -> None:
        self.position = 0
        self._file = file
        self._piece = memoryview(bytearray(_PIECE))

    def write(self, content: memoryview) -> None:
        while content:
            at = self.position % _PIECE
            taken = content[: _PIECE - at]
            self._piece[at : at + len(taken)] = taken
            self.position += len(taken)
            content = content[len(taken) :]
            if self.position % _PIECE == 0:
                self._flush(self._piece)

    def finish(self) -> None:
        self._flush(self._piece[: self.position % _PIECE])

    def _flush(self, piece: memoryview) -> None:
        while piece:
            piece = piece[self._file.write(piece) :]


def _written(writer: _PieceWriter, packed: Packed | None) -> _KeptWeight:
    if packed is None:
        raise OSError("the model was unloaded meanwhile")
    kept = list[_KeptTensor]()
    for field, tensor in packed.tensors.items():
        kept.append(_KeptTensor(field, writer.position, tensor.nbytes))
        content: Any = tensor.flatten().view(torch.uint8).numpy()
        writer.write(memoryview(content))
        writer.write(memoryview(bytes(_room(tensor) - tensor.nbytes)))
    struct = packed.struct
    return _KeptWeight(**{field: getattr(struct, field) for field in _NUMBERS}, tensors=kept)


def _room(tensor: Tensor) -> int:
    return tensor.nbytes + -tensor.nbytes % _LINE


def _fetch(descriptor: int) -> None:
    """Read a file into memory in pages as large as the system has them for files; what reads it first decides."""
    if size := os.fstat(descriptor).st_size:
        with suppress(OSError, ValueError), mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as mapping:
            mapping.madvise(mmap.MADV_HUGEPAGE)
            mapping.madvise(_POPULATE_READ)
