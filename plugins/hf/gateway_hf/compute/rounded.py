"""Weights rounded to few bits, with a scale for each group of each column: our own rounding, and that of GGUF files."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from gateway_hf.compute.placement import one_thread
from gateway_hf.compute.processor import processor_flags

# Elements of a column that share a scale of 8 bits: the first of these that divides the depth.
BYTE_GROUPS = (64, 32)
FOUR_GROUP = 32
# The same of numbers of four bits that are opened into bytes, and of weights that bear it: sums are scaled less often.
WIDE_GROUPS = (192, 256, 128, 64)
# A group is taken to reach at least this far: what is smaller becomes zero, and its inverse is still a number.
_LEAST_RANGE = 1e-30
# The largest narrow byte of a weight: two products with bytes of a row fit 16 bits, though it is made unsigned.
NARROW = 64
# How often a group's scale and offset are fitted to the numbers that it was rounded to.
_FITS = 3
# Columns that are rounded at a time, so that little memory is taken.
_COLUMNS = 1024
_ROUNDED = "rounded_weight"
# Of a module of experts: weights, and their dimensions.
_WEIGHTS, _STACKED = 2, 3


class Rounded(NamedTuple):
    """A weight `[columns, depth]` as whole numbers, times `scales` `[columns, groups]`, plus `offsets` if any.

    With offsets the numbers are those of 4 bits, 0 to 15; without, those of a signed byte. With `factors` `[depth]` it
    is to be multiplied by rows that were divided by them.
    """

    numbers: Tensor
    scales: Tensor
    offsets: Tensor | None = None
    factors: Tensor | None = None

    @property
    def group(self) -> int:
        """How many elements of a column share a scale."""
        return self.numbers.shape[1] // self.scales.shape[1]

    def floats(self) -> Tensor:
        """Return the weight in float32."""
        grouped = self.numbers.float().view(*self.scales.shape, self.group) * self.scales.float()[..., None]
        if self.offsets is not None:
            grouped += self.offsets.float()[..., None]
        weight = grouped.view(self.numbers.shape)
        return weight if self.factors is None else weight / self.factors

    def ordered(self, order: Tensor) -> "Rounded":
        """Return some columns, by their places."""
        offsets = None if self.offsets is None else self.offsets[order]
        return self._replace(numbers=self.numbers[order], scales=self.scales[order], offsets=offsets)


@cache
def prefers_narrow() -> bool:
    """Say whether this processor multiplies narrow bytes faster than whole ones.

    Where it sums products of bytes in pairs of 16 bits, and not in fours of 32, those of whole bytes do not fit. The
    kernels say so as well, as `kSaturates`; where the two differ, results are right and slower.
    """
    flags = processor_flags()
    return {"avx2", "fma"} <= flags and flags.isdisjoint({"avx_vnni", "avx512f"})


@cache
def prefers_opened() -> bool:
    """Say whether this processor multiplies bytes so fast that numbers of four bits are better made bytes before.

    Tiles of bytes are: what takes time is to scale their sums, which is done less often for larger groups.
    """
    return "amx_int8" in processor_flags()


class Opened(NamedTuple):
    """How `numbers` of four bits `[columns, depth]` become bytes: `slope * number // 16 + start`.

    `slopes` and `starts` `[columns, depth // 32]` are whole; bytes times `scales` `[columns, groups]` are the weight,
    and `sums` are those of a group's bytes. Numbers whose scale was below zero count down from 15 now.
    """

    numbers: Tensor
    slopes: Tensor
    starts: Tensor
    scales: Tensor
    sums: Tensor


def open_fours(rounded: Rounded) -> Opened | None:
    """Return how a weight becomes bytes; `None` where no group of bytes fits its depth, or it has no offsets."""
    depth = rounded.numbers.shape[1]
    group = next((size for size in WIDE_GROUPS if depth % size == 0), None)
    if rounded.offsets is None or group is None:
        return None
    own = (rounded.numbers, rounded.scales, rounded.offsets)
    parts = zip(*(torch.split(each, _COLUMNS) for each in own), strict=True)
    opened = [_open_columns(numbers, scales, offsets, group) for numbers, scales, offsets in parts]
    return Opened(*(torch.cat(each) for each in zip(*opened, strict=True)))


def _open_columns(numbers: Tensor, scales: Tensor, offsets: Tensor, group: int) -> tuple[Tensor, ...]:
    columns, groups = scales.shape
    fours, scale, offset = numbers.view(columns, groups, FOUR_GROUP).int(), scales.float(), offsets.float()
    fours = torch.where(scale[..., None] < 0, 15 - fours, fours)
    scale, offset = scale.abs(), offset + 15 * scale.clamp_max(0)
    largest = torch.maximum(torch.maximum(offset.abs(), (offset + 15 * scale).abs()) / 127, scale / (255 / 16))
    unit = largest.view(columns, -1, group // FOUR_GROUP).amax(-1).clamp_min(_LEAST_RANGE)
    units = unit.repeat_interleave(group // FOUR_GROUP, 1)
    slopes = (scale / units * 16).round().int()
    rising = fours * slopes[..., None] >> 4
    # What is cut off of the products of a group is made up for by its start.
    meant = (fours * scale[..., None] + offset[..., None]) / units[..., None]
    starts = (meant - rising).mean(-1).round().int().clamp_min(-127).minimum(127 - rising.amax(-1))
    sums = (rising + starts[..., None]).view(columns, -1, group).sum(-1, dtype=torch.int32)
    return fours.view(columns, -1).to(torch.uint8), slopes, starts, unit, sums


def round_to_bytes(weight: Tensor) -> Rounded:
    """Round `[columns, depth]` to bytes, symmetric."""
    return round_groups(weight, next(size for size in BYTE_GROUPS if weight.shape[1] % size == 0), 127)


def round_to_narrow(weight: Tensor) -> Rounded:
    """Round `[columns, depth]` to bytes from -`NARROW` to `NARROW`, symmetric.

    A bit less is made up for by smaller groups.
    """
    return round_groups(weight, BYTE_GROUPS[-1], NARROW)


def round_groups(weight: Tensor, group: int, most: int) -> Rounded:
    """Round `[columns, depth]` to whole numbers up to `most`, with a scale for each group of a column."""
    columns, depth = weight.shape
    grouped = weight.float().view(columns, depth // group, group)
    scales = grouped.abs().amax(-1).clamp_min(torch.finfo(torch.float32).tiny) / most
    return Rounded((grouped / scales[..., None]).round().to(torch.int8).view(columns, depth), scales)


def round_to_fours(weight: Tensor) -> Rounded:
    """Round `[columns, depth]` to 4 bits: between the least and the largest of each group, then with least squares.

    Scales and offsets are float16; weights that go beyond it become infinite.
    """
    parts = [_round_columns(part.float()) for part in torch.split(weight, _COLUMNS)]
    numbers, scales, offsets = (torch.cat(each) for each in zip(*parts, strict=True))
    return Rounded(numbers.view(weight.shape), scales, offsets)


def _round_columns(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    grouped = weight.reshape(weight.shape[0], -1, FOUR_GROUP)
    least, most = grouped.aminmax(dim=-1, keepdim=True)
    best, lowest = _fours(grouped, least, (most - least) / 15)
    for _ in range(_FITS):
        numbers, scale, offset = best
        middle, centre = numbers.float().mean(-1, keepdim=True), grouped.mean(-1, keepdim=True)
        away = numbers - middle
        fit = (away * (grouped - centre)).sum(-1, keepdim=True) / away.square().sum(-1, keepdim=True)
        found, error = _fours(grouped, centre - fit * middle, fit)
        better = error < lowest  # what is no number is not
        numbers, scale, offset = (torch.where(better, *pair) for pair in zip(found, best, strict=True))
        best, lowest = (numbers, scale, offset), torch.where(better, error, lowest)
    numbers, scale, offset = best
    return numbers.flatten(1), scale.squeeze(-1), offset.squeeze(-1)


def _fours(grouped: Tensor, offset: Tensor, scale: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Round groups from an offset on in steps of a scale; return the numbers, both as they are kept, and the error."""
    offset, scale = offset.half(), scale.half()
    numbers = ((grouped - offset) / scale).nan_to_num(0.0).round().clamp(0, 15)
    error = (numbers * scale + offset - grouped).square().sum(-1, keepdim=True)
    return (numbers.to(torch.uint8), scale, offset), error


def round_weights(model: PreTrainedModel, threads: int = 1) -> None:
    """Round the weights of linear layers and experts to 4 bits, all but the last layer's, and compute with those.

    So many modules are rounded at once, each in one thread: several threads of one operation wait for each other.
    """
    last = model.get_output_embeddings()  # type: ignore[no-untyped-call] # so is the library
    with one_thread(only=True), ThreadPoolExecutor(threads, "rounding") as pool:
        for _ in pool.map(partial(_round_module, last), model.modules()):
            pass


@torch.inference_mode()
def _round_module(last: nn.Module | None, module: nn.Module) -> None:
    _round_experts(module)
    if not isinstance(module, nn.Linear | Conv1D) or module is last:
        return
    weight = plain_weight(module)
    if weight.shape[1] % FOUR_GROUP == 0:
        rounded = round_to_fours(weight)
        weight.copy_(rounded.floats())
        attach(module, rounded)


def expert_weights(module: nn.Module, *, rounded: bool = False) -> list[tuple[Tensor | Rounded, Tensor | Rounded]]:
    """Return the weights `[2 * inner, hidden]` and `[hidden, inner]` of each expert; none where a module has none.

    With `rounded`, as they are noted where they were rounded. A module may hold them transposed.
    """
    stacks = [each.detach() for each in module.parameters(recurse=False) if each.dim() == _STACKED]
    if len(stacks) != _WEIGHTS:
        return []
    up, down = sorted(stacks, key=lambda each: -each.shape[1] * each.shape[2])
    if up.shape[2] == 2 * down.shape[1]:
        up, down = up.transpose(1, 2), down.transpose(1, 2)
    count, hidden, inner = down.shape
    if up.shape != (count, 2 * inner, hidden):
        return []
    if rounded and hasattr(module, _ROUNDED):
        noted: list[tuple[Tensor | Rounded, Tensor | Rounded]] = getattr(module, _ROUNDED)
        return noted
    return list(zip(up, down, strict=True))


def expert_biases(module: nn.Module) -> list[tuple[Tensor | None, Tensor | None]]:
    """Return the biases `[2 * inner]` and `[hidden]` of each expert that `expert_weights` finds, if it has any."""
    own = [each.detach() for each in module.parameters(recurse=False)]
    stacks, lines = ([each for each in own if each.dim() == size] for size in (_STACKED, _STACKED - 1))
    if len(lines) != _WEIGHTS:
        return [(None, None)] * len(stacks[0])
    up_first = stacks[0].numel() > stacks[1].numel()
    return list(zip(*(lines if up_first else lines[::-1]), strict=True))


def _round_experts(module: nn.Module) -> None:
    """Round what `expert_weights` finds to 4 bits, where its depths fit."""
    noted = list[tuple[Rounded, ...]]()
    for both in expert_weights(module):
        plain = [each for each in both if isinstance(each, Tensor)]
        if any(each.shape[1] % FOUR_GROUP for each in plain):
            return
        noted.append(tuple(map(round_to_fours, plain)))
        for weight, found in zip(plain, noted[-1], strict=True):
            weight.copy_(found.floats())
    if noted:
        setattr(module, _ROUNDED, noted)


def attach(linear: nn.Module, weight: Rounded) -> None:
    """Note that a linear layer's weight is this, to be packed so."""
    setattr(linear, _ROUNDED, weight)


def plain_weight(linear: nn.Module) -> Tensor:
    """Return the weight `[columns, depth]` of a linear layer, GPT-2's transposed ones included."""
    weight = linear.get_parameter("weight").detach()
    return weight.T if isinstance(linear, Conv1D) else weight


def weight_of(linear: nn.Module) -> tuple[Tensor | Rounded, Tensor | None]:
    """Return the weight `[columns, depth]` of a linear layer, rounded if it is noted so, and its bias."""
    bias = getattr(linear, "bias", None)
    return getattr(linear, _ROUNDED, plain_weight(linear)), bias if isinstance(bias, Tensor) else None


def joined(linears: Sequence[nn.Module]) -> tuple[Tensor | Rounded, Tensor | None]:
    """Return the weights of linear layers one below the other, and their biases, none where no layer has one."""
    if len(linears) == 1:
        return weight_of(linears[0])  # as it is: a copy of each would be a third of the time that a layer takes
    weights, biases = zip(*map(weight_of, linears), strict=True)
    whole = _join_rounded([each for each in weights if isinstance(each, Rounded)], len(weights))
    weight = torch.cat([plain_weight(each) for each in linears]) if whole is None else whole
    if all(bias is None for bias in biases):
        return weight, None
    lines = [plain_weight(each).new_zeros(len(plain_weight(each))) for each in linears]
    return weight, torch.cat([none if bias is None else bias for none, bias in zip(lines, biases, strict=True)])


def _join_rounded(weights: Sequence[Rounded], count: int) -> Rounded | None:
    """Put rounded weights one below the other; `None` where they are not so many, or not of one kind."""
    if len(weights) != count or len({(each.group, each.offsets is None) for each in weights}) > 1:
        return None
    numbers, scales = torch.cat([each.numbers for each in weights]), torch.cat([each.scales for each in weights])
    offsets = [each.offsets for each in weights if each.offsets is not None]
    return Rounded(numbers, scales, torch.cat(offsets) if offsets else None)
