"""The blocks of a GGUF file, kept beside its conversion: weights of few bits that are computed with as they are."""

import logging
from collections.abc import Iterable
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from gguf.quants import Q4_K
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from gateway.engine import LoadFailed
from gateway_hf.compute.rounded import FOUR_GROUP, Rounded, attach, plain_weight
from gateway_hf.loading.gguf_file import GgufFile

_log = logging.getLogger("gateway_hf")

FILE = "blocks.safetensors"
_NUMBERS, _SCALES, _OFFSETS = ".numbers", ".scales", ".offsets"
QuantBytes = NDArray[np.uint8]


def write_blocks(file: GgufFile, model: PreTrainedModel, folder: Path) -> None:
    """Write the blocks of the linear layers of `model`, which was made of `file`, into its folder.

    A layer's tensor is found by its numbers, and so is the order of its rows: names and orders are the library's.
    """
    layers: dict[int, list[tuple[str, Tensor]]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            weight = plain_weight(module).contiguous()
            layers.setdefault(_sum_of_rows(weight), []).append((name, weight))
    kept: dict[str, Tensor] = {}
    for tensor in file.tensors():
        if tensor.tensor_type not in _READ or len(tensor.data.shape) != 2:  # noqa: PLR2004 - rows and their blocks
            continue
        numbers = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type)).to(model.dtype)
        for name, weight in layers.pop(_sum_of_rows(numbers), []):
            if (rows := _order_of(numbers, weight)) is not None:
                _keep(kept, name, _rounded(tensor, rows))
    for name in sorted(name for each in layers.values() for name, _ in each):
        _log.debug("the file has no blocks of four or eight bits for %s", name)
    save_file(kept, folder / FILE)


def attach_blocks(model: PreTrainedModel, folder: Path, source: str) -> None:
    """Note the blocks of linear layers, to be packed as they are; raise `LoadFailed` where the file had none."""
    found = 0
    with safe_open(folder / FILE, framework="pt") as file:
        kept = set(file.keys())
        for name, module in model.named_modules():
            if name + _NUMBERS not in kept:
                continue
            numbers, scales = file.get_tensor(name + _NUMBERS), file.get_tensor(name + _SCALES)
            if name + _OFFSETS in kept:
                both = torch.stack((numbers & 15, numbers >> 4), dim=-1).flatten(1)
                attach(module, Rounded(both, scales, file.get_tensor(name + _OFFSETS)))
            else:
                attach(module, Rounded(numbers, scales))
            found += 1
    if not found:
        kinds = ", ".join(kind.name for kind in _READ)
        raise LoadFailed(f"quantize = gguf: '{source}' has no linear layer in one of {kinds}; use int8 or int4")


def _sum_of_rows(weight: Tensor) -> int:
    """Sum the hashes of the rows: the same in any order."""
    return sum(map(hash, _bytes_of_rows(weight)))


def _order_of(rows: Tensor, wanted: Tensor) -> list[int] | None:
    """Find which of the rows is the first that is wanted, the second, and so on; `None` where one is not there."""
    if rows.shape != wanted.shape:
        return None
    places = {row: place for place, row in enumerate(_bytes_of_rows(rows))}
    found = [places.get(row, -1) for row in _bytes_of_rows(wanted)]
    return None if -1 in found else found


def _bytes_of_rows(weight: Tensor) -> Iterable[bytes]:
    return (row.tobytes() for row in weight.view(torch.uint8).numpy())


def _keep(kept: dict[str, Tensor], name: str, rounded: Rounded) -> None:
    """Put a weight among those that are written, two numbers of four bits in a byte."""
    numbers = rounded.numbers
    if rounded.offsets is not None:
        kept[name + _OFFSETS] = rounded.offsets.contiguous()
        numbers = numbers[:, ::2] | numbers[:, 1::2] << 4
    kept[name + _NUMBERS], kept[name + _SCALES] = numbers.contiguous(), rounded.scales.contiguous()


def _rounded(tensor: gguf.ReaderTensor, rows: list[int]) -> Rounded:
    """Read a tensor's blocks, its rows in another order."""
    read, size = _READ[tensor.tensor_type]
    blocks = np.ascontiguousarray(tensor.data[rows]).view(np.uint8)
    columns = len(rows)
    found = [torch.from_numpy(part).view(columns, -1) for part in read(blocks.reshape(-1, size))]
    return Rounded(*found)


def _halves(blocks: QuantBytes, at: int) -> NDArray[np.float16]:
    """Read a float16 of each block: `[blocks, 1]`."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16)


def _fours(halves: QuantBytes) -> QuantBytes:
    """Read numbers two in a byte: the lower halves of `[..., bytes]` are the first of `[..., 2 * bytes]`."""
    return np.concatenate((halves & np.uint8(15), halves >> np.uint8(4)), axis=-1)


def _read_q8_0(blocks: QuantBytes) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    return np.ascontiguousarray(blocks[:, 2:]).view(np.int8), _halves(blocks, 0)


def _read_q4_0(blocks: QuantBytes) -> tuple[QuantBytes, NDArray[np.float16], NDArray[np.float16]]:
    scales = _halves(blocks, 0)
    return _fours(blocks[:, 2:]), scales, scales * np.float16(-8)


def _read_q4_1(blocks: QuantBytes) -> tuple[QuantBytes, NDArray[np.float16], NDArray[np.float16]]:
    return _fours(blocks[:, 4:]), _halves(blocks, 0), _halves(blocks, 2)


def _read_q4_k(blocks: QuantBytes) -> tuple[QuantBytes, NDArray[np.float16], NDArray[np.float16]]:
    scales, least = Q4_K.get_scale_min(np.ascontiguousarray(blocks[:, 4:16]))
    scale, offset = _halves(blocks, 0).astype(np.float32), _halves(blocks, 2).astype(np.float32)
    numbers = _fours(blocks[:, 16:].reshape(len(blocks), -1, FOUR_GROUP))
    return numbers, (scale * scales).astype(np.float16), (offset * -least.astype(np.float32)).astype(np.float16)


# How the blocks of a kind are read, and the bytes that each has.
_READ = {
    Kind.Q8_0: (_read_q8_0, 34),
    Kind.Q4_0: (_read_q4_0, 18),
    Kind.Q4_1: (_read_q4_1, 20),
    Kind.Q4_K: (_read_q4_k, 144),
}
