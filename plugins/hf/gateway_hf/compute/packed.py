"""Weights laid out for the kernels: sixteen output columns to a panel, each panel read once and in order."""

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from gateway_hf.compute.kernels import Format, Kernels, Linear

_LANES = 16
_PER_WORD = {Format.FLOAT32: 1, Format.BFLOAT16: 2, Format.INT8: 4}
_DTYPES = {Format.FLOAT32: torch.float32, Format.BFLOAT16: torch.bfloat16, Format.INT8: torch.int8}
# Elements of a row that share a scale: the longest of these that divides the depth.
_GROUPS = (192, 128, 64)


class Packed:
    """A weight `[columns, depth]` with its bias, packed; `struct` is what the kernels read."""

    def __init__(self, weight: Tensor, bias: Tensor | None, form: Format, kernels: Kernels) -> None:
        columns, depth = weight.shape
        self.struct = Linear(format=form, columns=columns, depth=depth)
        self._kept: list[Tensor] = []
        lines = -(-columns // _LANES) * _LANES
        if form is Format.INT8:
            weight = self._quantize(weight, lines)
        panels = kernels.room(lines * depth, _DTYPES[form])
        shape = (lines // _LANES, depth // _PER_WORD[form], _LANES, _PER_WORD[form])
        filled = panels.view(shape).permute(0, 2, 1, 3)
        whole = columns // _LANES
        split = (-1, _LANES, depth // _PER_WORD[form], _PER_WORD[form])
        filled[:whole] = weight[: whole * _LANES].reshape(split).to(_DTYPES[form])
        if lines != columns:
            rest = weight.new_zeros(_LANES, depth)
            rest[: columns - whole * _LANES] = weight[whole * _LANES : columns]
            filled[whole:] = rest.view(split).to(_DTYPES[form])
        self.struct.panels = self._keep(panels)
        if bias is not None:
            self.struct.bias = self._keep(nn.functional.pad(bias.float(), (0, lines - columns)))

    @staticmethod
    def fits(depth: int, form: Format) -> bool:
        """Say whether rows of such a depth can be packed."""
        return any(depth % group == 0 for group in _GROUPS) if form is Format.INT8 else depth % _PER_WORD[form] == 0

    def _quantize(self, weight: Tensor, lines: int) -> Tensor:
        """Round to bytes, symmetric, with a scale for each group of each column; return them unpacked."""
        columns, depth = weight.shape
        group = next(size for size in _GROUPS if depth % size == 0)
        self.struct.group = group
        grouped = weight.float().view(columns, depth // group, group)
        scales = grouped.abs().amax(-1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        rounded = (grouped / scales[..., None]).round()
        self.struct.scales = self._keep(_by_panel(scales, lines))
        # The kernels shift a row's bytes by 128 to make them unsigned: this takes it back.
        self.struct.sums = self._keep(_by_panel(-128 * rounded.sum(-1), lines).int())
        return rounded.view(columns, depth)

    def _keep(self, tensor: Tensor) -> int:
        tensor = tensor.contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


def _by_panel(grouped: Tensor, lines: int) -> Tensor:
    """Lay `[columns, groups]` out as `[panels, groups, lanes]`."""
    columns, groups = grouped.shape
    padded = nn.functional.pad(grouped, (0, 0, 0, lines - columns))
    return padded.view(lines // _LANES, _LANES, groups).transpose(1, 2).contiguous()


def weight_of(linear: nn.Linear | Conv1D) -> tuple[Tensor, Tensor | None]:
    """Return the weight `[columns, depth]` and the bias of a linear layer, GPT-2's transposed ones included."""
    weight = linear.get_parameter("weight")
    bias = getattr(linear, "bias", None)
    return (weight.T if isinstance(linear, Conv1D) else weight), bias if isinstance(bias, Tensor) else None


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
