"""Mixtures of experts by what they do: how a router scores and chooses is found out by trying it."""

import copy
import ctypes
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gateway_hf.compute.kernels import ExpertsStruct, Format, Kernels, Linear, Scoring
from gateway_hf.compute.packed import Packed
from gateway_hf.compute.pieces import activate, activation_of
from gateway_hf.compute.rounded import Rounded, expert_weights
from gateway_hf.compute.trace import ExpertsCall, LayerTrace
from gateway_hf.compute.trial import Misfit

# Rows that a router is tried with, and how many of them may be chosen for otherwise, for scores that nearly tie.
_PROBES, _TIES = 256, 2
_EXACT = 1e-4


class ExpertRouter(NamedTuple):
    """From states to experts, float32: `weight` `[experts, hidden]`; `favour` counts for the choice alone."""

    weight: Tensor
    bias: Tensor | None
    favour: Tensor | None
    scoring: Scoring
    normalised: bool
    chosen: int
    scale: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        """Return what each expert counts for rows `[rows, hidden]`, zero where it is not chosen: `[rows, experts]`."""
        products = nn.functional.linear(x, self.weight, self.bias)
        scores = products.sigmoid() if self.scoring is Scoring.SIGMOID else products.softmax(-1)
        places = (scores if self.favour is None else scores + self.favour).topk(self.chosen).indices
        weights = scores.gather(1, places)
        if self.normalised:
            weights = weights / weights.sum(-1, keepdim=True)
        return torch.zeros_like(scores).scatter(1, places, self.scale * weights)


class ExpertPieces(NamedTuple):
    """A mixture of experts as the kernels know it.

    `module` holds a gate's and the other columns `[experts, 2 * inner, hidden]`, the gate's first if `gate_first`, and
    `[experts, hidden, inner]`. `shared` `[1, hidden]` says how much of the part that all rows share is wanted.
    """

    router: ExpertRouter
    module: nn.Module
    gate_first: bool
    activation: int
    shared: Tensor | None = None

    def depths(self) -> tuple[int, int]:
        """Return how deep the two products of an expert are."""
        ups, downs = (each for each in expert_weights(self.module)[0] if isinstance(each, Tensor))
        return ups.shape[1], downs.shape[1]


class PackedExperts:
    """A mixture of experts for the kernels; `struct` is what they read."""

    def __init__(self, pieces: ExpertPieces, form: Format, kernels: Kernels) -> None:
        router = pieces.router
        both = expert_weights(pieces.module, rounded=True)
        self._ups, self._downs = (Linear * len(both))(), (Linear * len(both))()
        self._kept = list[Packed]()
        for at, (up, down) in enumerate(both):
            for table, weight in ((self._ups, up if pieces.gate_first else _halves_swapped(up)), (self._downs, down)):
                packed = Packed(weight, None, form, kernels)
                table[at] = packed.struct
                self._kept.append(packed)
        rows = [router.weight] if pieces.shared is None else [router.weight, pieces.shared.float()]
        bias = router.bias if router.bias is None else nn.functional.pad(router.bias, (0, len(rows) - 1))
        packed = Packed(torch.cat(rows), bias, Format.FLOAT32, kernels)
        self._kept.append(packed)
        self._favour = router.favour
        self.struct = ExpertsStruct(
            router=packed.struct,
            favour=None if router.favour is None else router.favour.data_ptr(),
            ups=ctypes.addressof(self._ups),
            downs=ctypes.addressof(self._downs),
            scale=router.scale,
            count=len(both),
            chosen=router.chosen,
            scoring=router.scoring,
            normalised=router.normalised,
            inner=self._downs[0].depth,
            activation=pieces.activation,
            weighed=pieces.shared is not None,
        )


@torch.inference_mode()
def router_of(module: nn.Module, chosen: int) -> ExpertRouter | None:
    """Find the router that a module is, one that returns weights and places last; none where it is another."""
    exact = copy.deepcopy(module).float()
    own = [*exact.parameters(), *exact.buffers()]
    weights = [each for each in own if each.dim() > 1]
    vectors = [each.detach().float().contiguous() for each in own if each.dim() == 1]
    if len(weights) != 1 or len(vectors) > 1 or any(len(each) != len(weights[0]) for each in vectors):
        return None
    weight = weights[0].detach().float().contiguous()
    x = torch.randn(_PROBES, weight.shape[1], generator=torch.Generator().manual_seed(0))
    # Scores that spread as those of a trained router do.
    x = x / (x @ weight.T).std().clamp_min(torch.finfo(torch.float32).tiny)
    try:
        *_, values, places = exact(x)
    except Exception:  # noqa: BLE001 - whatever a part says that is none
        return None
    seen = torch.zeros(_PROBES, len(weight)).scatter(1, places, values.float())
    (vector,) = vectors or (None,)
    for scoring, normalised, is_bias in product(Scoring, (True, False), (False, True)):
        bias, favour = (vector, None) if is_bias else (None, vector)
        found = ExpertRouter(weight, bias, favour, scoring, normalised, chosen)
        made = found(x)
        scale = float((seen * made).sum() / made.square().sum())
        off = (scale * made - seen).norm(dim=1) > _EXACT * seen.norm(dim=1)
        if int(off.sum()) <= _TIES:
            return found._replace(scale=round(scale, 5) if abs(round(scale, 5) - scale) < _EXACT * scale else scale)
    return None


def experts_of(call: ExpertsCall, router: ExpertRouter, near: float) -> ExpertPieces | None:
    """Find what experts compute of the rows that they were given; none where it is something else.

    `near` is how far it may be from what they made, as a part of its norm.
    """
    both = expert_weights(call.part)
    if len(both) != len(router.weight):
        return None
    kinds = {kind for child in call.part.children() if (kind := activation_of(child)) is not None}
    for kind, gate_first in product(kinds, (True, False)):
        made = torch.zeros_like(call.made, dtype=torch.float32)
        for row, (places, weights) in enumerate(zip(call.places.tolist(), call.weights, strict=True)):
            for place, weight in zip(places, weights, strict=True):
                up, down = (each.float() for each in both[place] if isinstance(each, Tensor))
                halves = (up @ call.given[row].float()).chunk(2)
                gate, other = halves if gate_first else halves[::-1]
                made[row] += weight.float() * (down @ (activate(kind, gate) * other))
        if bool((made - call.made.float()).norm() <= near * call.made.float().norm()):
            return ExpertPieces(router, call.part, gate_first, kind)
    return None


def find_experts(trace: LayerTrace, near: float) -> tuple[ExpertPieces, Tensor, Tensor]:
    """Find a layer's experts, with what they were given and made, `[rows, hidden]`; raise `Misfit`."""
    if len(trace.routers) != 1 or len(trace.experts) != 1:
        raise Misfit("its experts are chosen in no known way")
    (told,), (call,) = trace.routers, trace.experts
    given = told.given.reshape(-1, told.given.shape[-1])
    is_told = torch.equal(told.places, call.places) and torch.equal(told.weights, call.weights)
    if not is_told or not torch.equal(given, call.given):
        raise Misfit("its experts are given something else than their router")
    if (router := router_of(told.part, told.places.shape[1])) is None:
        raise Misfit("its router chooses in a way that the kernels have not")
    if (pieces := experts_of(call, router, near)) is None:
        raise Misfit("its experts compute what the kernels have not")
    return pieces, call.given, call.made


def _halves_swapped(weight: Tensor | Rounded) -> Tensor | Rounded:
    if isinstance(weight, Tensor):
        return torch.cat(weight.chunk(2)[::-1])
    parts = (None if each is None else torch.cat(each.chunk(2)[::-1]) for each in weight)
    return Rounded(*parts)  # type: ignore[arg-type] # only offsets may be none
