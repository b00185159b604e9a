"""Whole decoder layers in one call of the kernels; everything around them stays transformers'."""

import ctypes
from collections.abc import Sequence as Some
from typing import Any

import torch
from torch import Tensor, nn

from gateway_hf.compute.adapters import AdaptedColumns, Adapters
from gateway_hf.compute.attention import Attention
from gateway_hf.compute.experts import PackedExperts
from gateway_hf.compute.kernels import Format, Heads, Layer, Turning
from gateway_hf.compute.norms import Norm
from gateway_hf.compute.panels import Panels, WantedWeight
from gateway_hf.compute.pieces import LayerPieces, Projection, Rotation, byte_columns, wanted_columns
from gateway_hf.compute.rounded import prefers_narrow


class FusedLayer(nn.Module):
    """A decoder layer that reads and overwrites its hidden states; `heads` is what the layer asked attention for.

    `rotation` is how its queries and keys turn.
    """

    def __init__(self, pieces: LayerPieces, heads: Heads, attention: Attention, panels: Panels, form: Format) -> None:
        super().__init__()
        self._attention = attention
        self._kernels = panels.kernels
        self._kept: list[Any] = []
        self._companions = pieces.companions
        self.rotation = pieces.heads.rotation
        rotary = pieces.heads.rotary
        order = self.rotation.order(heads.size, rotary)
        self._qkv = turned_for(pieces.heads.qkv, heads, order)
        self._pieces = pieces
        self.struct = struct = Layer(heads=heads, rotary=rotary, scale=pieces.scale, activation=pieces.activation)
        struct.heads.scale *= pieces.heads.multiplier
        struct.gated, struct.parallel = pieces.gated, pieces.parallel
        struct.head_norm, struct.norm_last = pieces.heads.head_norm, pieces.heads.norm_last
        self._factors = dict[str, Tensor | None]()
        for field, projections, norm in (
            ("qkv", self._qkv, pieces.before),
            ("out", (Projection(pieces.out),), None),
            ("up", pieces.up, pieces.between),
            ("down", () if pieces.down is None else (Projection(pieces.down),), None),
        ):
            if not projections:
                continue
            packed = panels.pack(self._wanted(field, projections, norm, form), form)
            self._kept.append(packed)
            self._factors[field] = packed.factors
            setattr(struct, field, packed.struct)
        struct.hidden, struct.inner = struct.out.columns, struct.down.depth
        if pieces.experts is not None:
            experts = PackedExperts(pieces.experts, form, panels)
            self._kept.append(experts)
            struct.experts = ctypes.addressof(experts.struct)
        for name, field in (("before", "qkv"), ("attended", ""), ("between", "up"), ("after", "")):
            norm = getattr(pieces, name)
            self._norm(name, norm if norm is None else norm.divided(self._factors.get(field)))
        for name in ("query", "key"):
            norm = getattr(pieces.heads, name)
            self._norm(name, norm if norm is None or order is None else norm.ordered(order))

    def adapt(self, adapters: Adapters) -> None:
        """Take what adapters change of the layer that this one was made of, which is needed no more."""
        heads, pieces = self.struct.heads, self._pieces
        if pieces.experts is not None:  # there are no adapters
            del self._pieces, self._qkv, self._factors
            return
        widths = (heads.queries * heads.size, heads.keys * heads.size, heads.keys * heads.size)
        factors, both = self._factors, (self.struct.inner,) * 2
        columns = [*_side_by_side(self._qkv, widths, factors["qkv"]), AdaptedColumns(pieces.out)]
        columns += [*_side_by_side(pieces.up, both, factors["up"]), AdaptedColumns(pieces.down)]
        del self._pieces, self._qkv, self._factors
        if (packed := adapters.pack(columns, self._kernels)) is not None:
            self._kept.append(packed)
            self.struct.adapters = ctypes.addressof(packed.table)

    def forward(
        self, hidden_states: Tensor, *_: object, position_embeddings: tuple[Tensor, Tensor] | None = None, **__: object
    ) -> Tensor | tuple[Tensor | None, ...]:
        """Run the layer over `[1, rows, hidden]`, in place where that is float32 already; return float32."""
        rows, states = self._attention.rows, hidden_states
        if rows is not None:
            states = hidden_states.float().contiguous()
            own, form = (self.address, self.turned(position_embeddings)), self._attention.cache.form
            self._kernels.run_layers([own], rows.batch, form, states, self._attention.steps.address)
        return states if self._companions is None else (states, *(None,) * self._companions)

    @property
    def address(self) -> int:
        """Where the kernels find the layer, for as long as it lives."""
        return ctypes.addressof(self.struct)

    def turned(self, positions: tuple[Tensor, Tensor] | None) -> Turning:
        """Return the cosines and sines of rows as the kernels want them, of those that a model gives its layers."""
        if positions is None or self.rotation is Rotation.NONE:
            return None
        cos, sin = (self.rotation.laid(each.float()).contiguous() for each in positions)
        return cos, sin

    def _wanted(self, field: str, projections: Some[Projection], norm: Norm | None, form: Format) -> WantedWeight:
        """Return the weight to be packed: bytes in wide groups, but for layers' states that cannot be smoothed.

        Those are states without a norm, and states that experts get as well.
        """
        reach = None if norm is None or (field == "up" and self._pieces.experts is not None) else norm.reach
        wide = reach is not None or field in {"out", "down"}
        if form is Format.INT8 and wide and not prefers_narrow():
            return byte_columns(projections, reach)
        return wanted_columns(projections)

    def _norm(self, name: str, norm: Norm | None) -> None:
        if norm is not None:
            self._kept.append(norm)
            setattr(self.struct, name, norm.struct())


def turned_for(qkv: tuple[Projection, ...], heads: Heads, order: Tensor | None) -> tuple[Projection, ...]:
    """Return projections of queries, keys and values whose queries and keys have their numbers in another order.

    Scores stay what they are, for queries and keys change alike.
    """
    if order is None:
        return qkv
    widths = [heads.queries * heads.size, heads.keys * heads.size]
    moved = [torch.arange(width).view(-1, heads.size)[:, order].flatten() for width in widths]
    if len(qkv) != 1:
        return (*(Projection(each.linear, to) for each, to in zip(qkv[:2], moved, strict=True)), qkv[2])
    whole = qkv[0]
    moved = [moved[0], widths[0] + moved[1], torch.arange(sum(widths), sum(widths) + widths[1])]
    places = torch.cat(moved)
    return (Projection(whole.linear, places if whole.order is None else whole.order[places]),)


def _side_by_side(
    projections: tuple[Projection, ...], widths: tuple[int, ...], factors: Tensor | None
) -> list[AdaptedColumns]:
    """Return where the outputs of layers lie; one that makes all of them has the first place, and gaps follow."""
    starts = [sum(widths[:at]) for at in range(len(projections))]
    placed = zip(projections, starts, strict=True)
    columns = [AdaptedColumns(each.linear, start, each.order, factors) for each, start in placed]
    return columns + [AdaptedColumns(None)] * (len(widths) - len(columns))
