"""The pieces that the kernels put a decoder layer together of, and their variants."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Some
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from gateway_hf.compute.kernels import HeadNorm
from gateway_hf.compute.norms import Norm
from gateway_hf.compute.panels import WantedWeight
from gateway_hf.compute.rounded import Rounded, joined, plain_weight
from gateway_hf.compute.smoothing import round_widely

if TYPE_CHECKING:
    from gateway_hf.compute.experts import ExpertPieces

# In the order of the kernels' numbers.
_ACTIVATIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    nn.SiLU(),
    nn.GELU(approximate="tanh"),
    nn.GELU(),
    nn.ReLU(),
    lambda x: x.relu().square(),
    lambda x: x * (1.702 * x).sigmoid(),
)
ACTIVATIONS = len(_ACTIVATIONS)


LinearModule = nn.Linear | Conv1D


def activate(kind: int, x: Tensor) -> Tensor:
    """Return what the kernels' activation of a number makes of `x`."""
    return _ACTIVATIONS[kind](x)


class Rotation(Enum):
    """Which two numbers of a head turn together, and where the cosine of their angle lies among those of a position."""

    HALVES = "one of each half"
    HALVES_ONCE = "one of each half, and both have one cosine"
    PAIRS = "neighbours"
    PAIRS_BESIDE = "neighbours, and so do their cosines"
    NONE = "nothing turns"

    def order(self, size: int, rotary: int) -> Tensor | None:
        """Return the places of a head's numbers in which this is a rotation of halves; none where it is as it lies."""
        if self in {Rotation.HALVES, Rotation.HALVES_ONCE, Rotation.NONE}:
            return None
        places = torch.arange(size)
        return torch.cat([places[:rotary:2], places[1:rotary:2], places[rotary:]])

    def rotary(self, cosines: int) -> int:
        """Return how many numbers of a head turn, where a position has so many cosines."""
        return 0 if self is Rotation.NONE else 2 * cosines if self is Rotation.HALVES_ONCE else cosines

    def laid(self, numbers: Tensor) -> Tensor:
        """Return the cosines or sines `[..., rotary]` as a rotation of halves has them."""
        if self is Rotation.HALVES_ONCE:
            return torch.cat([numbers] * 2, dim=-1)
        return torch.cat([numbers[..., ::2]] * 2, dim=-1) if self is Rotation.PAIRS_BESIDE else numbers

    def turned(self, x: Tensor, turns: tuple[Tensor, Tensor] | None) -> Tensor | None:
        """Turn `[rows, heads, size]`, float32, by cosines and sines `[rows, ...]`; none where they are none for it."""
        if self is Rotation.NONE or turns is None:
            return x if self is Rotation.NONE else None
        size, rotary = x.shape[-1], self.rotary(turns[0].shape[-1])
        if rotary > size or rotary % 2:
            return None
        cos, sin = (self.laid(each.float())[:, None] for each in turns)
        order = self.order(size, rotary)
        places = torch.arange(size) if order is None else order
        laid, half = x[..., places], rotary // 2
        a, b, rest = laid[..., :half], laid[..., half:rotary], laid[..., rotary:]
        out = torch.empty_like(x)
        out[..., places] = torch.cat([torch.cat([a, b], -1) * cos + torch.cat([-b, a], -1) * sin, rest], -1)
        return out


class Projection(NamedTuple):
    """Columns of a linear layer's output, in the order that the kernels want; as they are where there is no order."""

    linear: LinearModule
    order: Tensor | None = None


def joined_columns(projections: Some[Projection]) -> tuple[Tensor | Rounded, Tensor | None]:
    """Return the weights of projections one below the other in their order, and their biases, if any has one."""
    weight, bias = joined([each.linear for each in projections])
    if all(each.order is None for each in projections):
        return weight, bias
    places, end = list[Tensor](), 0
    for linear, order in projections:
        columns = len(plain_weight(linear))
        places.append(end + (torch.arange(columns) if order is None else order))
        end += columns
    whole = torch.cat(places)
    weight = weight.ordered(whole) if isinstance(weight, Rounded) else weight[whole]
    return weight, bias if bias is None else bias[whole]


def wanted_columns(projections: Some[Projection]) -> WantedWeight:
    """Return what `joined_columns` makes, to be packed."""
    shapes = [plain_weight(each.linear).shape for each in projections]
    columns, depth = sum(shape[0] for shape in shapes), shapes[0][1]
    return WantedWeight(columns, depth, lambda: joined_columns(projections))


def byte_columns(projections: Some[Projection], reach: Tensor | None) -> WantedWeight:
    """Return the same, rounded to bytes in wide groups, for rows that reach so far, `[depth]`, if they are smoothed."""
    wanted = wanted_columns(projections)

    def make() -> tuple[Tensor | Rounded, Tensor | None]:
        weight, bias = wanted.make()
        return weight if isinstance(weight, Rounded) else round_widely(weight, reach), bias

    return wanted._replace(make=make)


class HeadPieces(NamedTuple):
    """How queries, keys and values are made; `rotary` of the numbers in a head turn, and queries are multiplied.

    Norms are first, or `norm_last`.
    """

    qkv: tuple[Projection, ...]
    query: Norm | None
    key: Norm | None
    head_norm: HeadNorm
    norm_last: bool
    rotation: Rotation
    rotary: int
    multiplier: float


class LayerPieces(NamedTuple):
    """A decoder layer as the kernels know it; a norm that is missing is `None`, and so are `experts`.

    Beside experts, `up` and `down` are of the part that all rows share, if there is one.
    """

    heads: HeadPieces
    out: LinearModule
    up: tuple[Projection, ...]
    down: LinearModule | None
    before: Norm | None
    attended: Norm | None
    between: Norm | None
    after: Norm | None
    activation: int
    gated: bool
    parallel: bool
    scale: float
    companions: int | None
    experts: ExpertPieces | None

    def linears(self) -> list[LinearModule]:
        """Return all linear layers."""
        down = () if self.down is None else (self.down,)
        return [*(each.linear for each in (*self.heads.qkv, *self.up)), self.out, *down]


def activation_of(function: nn.Module) -> int | None:
    """Find the kernels' number of an activation, by trying; none where they have no such."""
    x = torch.linspace(-6, 6, 61)
    try:
        y = function(x)
    except Exception:  # noqa: BLE001 - whatever a part says that is none
        return None
    if not isinstance(y, Tensor) or y.shape != x.shape:
        return None
    return next((kind for kind, each in enumerate(_ACTIVATIONS) if torch.allclose(y, each(x), atol=1e-6)), None)
