"""Weights laid out for the kernels: sixteen output columns to a panel, each panel read once and in order."""

from typing import Protocol, Self

import torch
from torch import Tensor, nn

from gateway_hf.compute.kernels import FORMATS, Format, Kernels, Linear
from gateway_hf.compute.rounded import (
    BYTE_GROUPS,
    FOUR_GROUP,
    NARROW,
    Rounded,
    open_fours,
    prefers_narrow,
    prefers_opened,
    round_to_bytes,
    round_to_fours,
    round_to_narrow,
)

_LANES = 16
_PER_WORD = {Format.FLOAT32: 1, Format.BFLOAT16: 2, Format.INT8: 4}
# Of panels in memory.
PANEL_DTYPES = {
    Format.FLOAT32: torch.float32,
    Format.BFLOAT16: torch.bfloat16,
    Format.INT8: torch.int8,
    Format.INT4: torch.uint8,
}
# Of a column in a group of four bits: bytes, two numbers each, and bytes of its scale and offset; or, where they are
# opened, of the slopes and starts of two groups.
_NIBBLES, _NOTES = FOUR_GROUP // 2, 4
# What the kernels have a pointer to.
_POINTERS = {"panels", "bias", "scales", "sums"}
# Bytes that are taken at a time for small weights, and those of a line of the processor's caches.
_PIECE, _LINE = 2**26, 64


class NotPackable(Exception):
    """A weight cannot be packed; the message says why."""


class Memory(Protocol):
    """Where packed weights lie."""

    def room(self, size: int, dtype: torch.dtype) -> Tensor:
        """Return memory, not yet touched, for so many numbers."""
        ...


class SharedMemory:
    """Memory for many small weights, taken in pieces that are many large pages of the system each."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
        self._left = torch.empty(0, dtype=torch.uint8)

    def room(self, size: int, dtype: torch.dtype) -> Tensor:
        """Return memory that begins at a line of the processor's caches."""
        wanted = size * dtype.itemsize
        if wanted > len(self._left):
            self._left = self._kernels.room(max(wanted, _PIECE), torch.uint8)
        taken, self._left = self._left[:wanted], self._left[wanted + -wanted % _LINE :]
        return taken.view(dtype)


class Packed:
    """A weight `[columns, depth]` with its bias, packed; `struct` is what the kernels read.

    One that is rounded stays so; others are rounded, where `form` is of few bits.
    """

    def __init__(self, weight: Tensor | Rounded, bias: Tensor | None, form: Format, memory: Memory) -> None:
        self.struct = Linear()
        self.tensors: dict[str, Tensor] = {}
        self.hold: object = None
        self._memory = memory
        if isinstance(weight, Tensor) and form is Format.INT8:
            self.struct.narrow = prefers_narrow()
            weight = round_to_narrow(weight) if self.struct.narrow else round_to_bytes(weight)
        elif isinstance(weight, Tensor) and form is Format.INT4:
            weight = round_to_fours(weight)
        if isinstance(weight, Tensor):
            self._pack(weight, form)
        elif weight.offsets is None:
            self._pack_bytes(weight)
        else:
            self._pack_fours(weight)
        if isinstance(weight, Rounded) and weight.factors is not None:
            self._keep("factors", weight.factors)
        columns = self.struct.columns
        if bias is not None:
            self._keep("bias", nn.functional.pad(bias.float(), (0, -columns % _LANES)))

    @classmethod
    def of(cls, struct: Linear, tensors: dict[str, Tensor], hold: object) -> Self:
        """Return the weight that was packed before, of its numbers in `struct` and its tensors; keep `hold` as long."""
        packed = cls.__new__(cls)
        packed.struct, packed.tensors, packed.hold = struct, tensors, hold
        for field in _POINTERS & tensors.keys():
            setattr(struct, field, tensors[field].data_ptr())
        return packed

    @property
    def factors(self) -> Tensor | None:
        """By what rows `[..., depth]` have to be divided before; none where they are multiplied as they are."""
        return self.tensors.get("factors")

    @staticmethod
    def fits(depth: int, form: Format) -> bool:
        """Say whether rows of such a depth can be packed."""
        if form is Format.INT4:
            return depth % FOUR_GROUP == 0
        return any(depth % group == 0 for group in BYTE_GROUPS) if form is Format.INT8 else depth % _PER_WORD[form] == 0

    @property
    def is_exact(self) -> bool:
        """Whether it holds the numbers of the weight as they were."""
        return self.struct.format in {Format.FLOAT32, Format.BFLOAT16}

    def lines(self, columns: Tensor) -> Tensor:
        """Return lines `[count, depth]` of the weight, by their numbers `[count]`; of an exact one alone.

        One element of a line lies sixteen words behind the one before, so that a line is as many cache lines as words:
        far slower to read than in a table, and nothing beside a pass over the layers. Raises `IndexError` for others.
        """
        if ((columns < 0) | (columns >= self.struct.columns)).any():
            raise IndexError("a line that the weight does not have")
        panels = self.tensors["panels"]
        words = panels.view(torch.int32).view(-1, self.struct.depth // _PER_WORD[self.struct.format], _LANES)
        return words[columns // _LANES, :, columns % _LANES].view(panels.dtype)

    def _pack(self, weight: Tensor, form: Format) -> None:
        columns, depth = weight.shape
        self.struct.format, self.struct.columns, self.struct.depth = form, columns, depth
        per_word, panels = _PER_WORD[form], -(-columns // _LANES)
        room = self._memory.room(panels * _LANES * depth, PANEL_DTYPES[form])
        # Words are copied whole: torch moves single numbers of two bytes eight times as slowly.
        words = room.view(torch.int32).view(panels, depth // per_word, _LANES)
        own = weight.to(PANEL_DTYPES[form]).contiguous()  # a model may have some of its weights in another format
        _fill(words.transpose(1, 2), own.view(torch.int32).view(columns, -1))
        self._keep("panels", room)

    def _pack_bytes(self, rounded: Rounded) -> None:
        # Of unsigned bytes, the largest are as torch wraps them.
        self._pack(rounded.numbers + NARROW if self.struct.narrow else rounded.numbers, Format.INT8)
        columns, groups = rounded.scales.shape
        self.struct.group = rounded.group
        self._keep("scales", _by_panel(rounded.scales.float()))
        if self.struct.narrow:
            return
        # The kernels may shift a row's bytes by 128 to make them unsigned: this takes it back.
        sums = rounded.numbers.view(columns, groups, rounded.group).sum(-1, dtype=torch.int32)
        self._keep("sums", _by_panel(-128 * sums))

    def _pack_fours(self, rounded: Rounded) -> None:
        columns, groups = rounded.scales.shape
        self.struct.format, self.struct.columns, self.struct.depth = Format.INT4, columns, groups * FOUR_GROUP
        if rounded.offsets is None or not bool((rounded.scales + rounded.offsets).isfinite().all()):
            raise NotPackable("its weights are too large for 4 bits")
        opened = open_fours(rounded) if prefers_opened() else None
        self.struct.group = FOUR_GROUP if opened is None else self.struct.depth // opened.scales.shape[1]
        panels = -(-columns // _LANES)
        if opened is None:
            halves = torch.stack((rounded.scales, rounded.offsets), dim=-1).half().view(torch.uint8)
            notes = self._fill_fours(_joined_fours(rounded.numbers, groups), groups, panels)
            _fill(notes.view(panels, groups, 2, _LANES, 2).permute(0, 3, 1, 2, 4), halves.view(columns, groups, 2, 2))
        else:
            swapped = _joined_fours(opened.numbers, groups)[..., [1, 0, 3, 2]]
            notes = self._fill_fours(swapped, groups // 2, panels)
            both = torch.stack((opened.slopes.byte(), opened.starts.char().view(torch.uint8)), dim=-1)
            _fill(notes.view(panels, -1, _LANES, _NOTES).transpose(1, 2), both.view(columns, -1, _NOTES))
            self._keep("scales", _by_panel(opened.scales))
            self._keep("sums", _by_panel(-128 * opened.sums))

    def _fill_fours(self, words: Tensor, parts: int, panels: int) -> Tensor:
        """Lay words `[columns, groups, words, 4]` out, a panel in so many parts, with room for notes behind each.

        The room `[panels, parts, 64]` is returned.
        """
        size = words[0].numel() // parts * _LANES
        room = self._memory.room(panels * parts * (size + _LANES * _NOTES), torch.uint8)
        whole = room.view(panels, parts, -1)
        own = whole[..., :size].view(panels, parts, -1, _LANES, 4)
        _fill(own.permute(0, 3, 1, 2, 4), words.reshape(len(words), parts, -1, 4))
        self._keep("panels", room)
        return whole[..., size:]

    def _keep(self, field: str, tensor: Tensor) -> None:
        self.tensors[field] = tensor = tensor.contiguous()
        if field in _POINTERS:
            setattr(self.struct, field, tensor.data_ptr())


def _joined_fours(numbers: Tensor, groups: int) -> Tensor:
    """Put numbers of four bits `[columns, depth]` into words of eight, `[columns, groups, words, 4]`."""
    pairs = numbers.view(len(numbers), groups, _NIBBLES // 4, 2, 4)
    return pairs[..., 0, :] | pairs[..., 1, :] << 4


def _fill(panels: Tensor, columns: Tensor) -> None:
    """Copy columns into panels `[panels, lanes, ...]`, and zeros into the lanes beyond the last."""
    whole = columns.shape[0] // _LANES
    panels[:whole] = columns[: whole * _LANES].view(whole, _LANES, *columns.shape[1:])
    if whole < panels.shape[0]:
        rest = columns.shape[0] - whole * _LANES
        panels[whole, :rest] = columns[whole * _LANES :]
        panels[whole, rest:] = 0


def _by_panel(grouped: Tensor) -> Tensor:
    """Lay `[columns, groups]` out as `[panels, groups, lanes]`."""
    columns, groups = grouped.shape
    padded = nn.functional.pad(grouped, (0, 0, 0, -columns % _LANES))
    return padded.view(-1, _LANES, groups).transpose(1, 2).contiguous()


class PackedLinear(nn.Module):
    """What stands in the place of a linear layer; gives `dtype`, whatever it computes in."""

    def __init__(self, packed: Packed, kernels: Kernels, dtype: torch.dtype) -> None:
        super().__init__()
        self._packed = packed
        self._kernels = kernels
        self._dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` `[..., depth]` times the weight."""
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        product = self._kernels.multiply(self._packed.struct, rows)
        return product.view(*x.shape[:-1], product.shape[-1]).to(self._dtype)


def form_of(dtype: torch.dtype, quantize: str) -> Format | None:
    """Return the format of weights that are not rounded already; none where the kernels have none."""
    return FORMATS.get(dtype) if quantize == "none" else Format.INT8
