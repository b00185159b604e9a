"""Mixtures of experts by what they do: how a router scores and chooses is found out by trying it."""

import copy
import ctypes
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gateway_hf.compute.kernels import ExpertsStruct, Format, Linear, Scoring
from gateway_hf.compute.packed import Packed, SharedMemory
from gateway_hf.compute.panels import Panels, WantedWeight
from gateway_hf.compute.pieces import ACTIVATIONS, activate, activation_of
from gateway_hf.compute.rounded import Rounded, expert_biases, expert_weights
from gateway_hf.compute.trace import ExpertsCall, LayerTrace
from gateway_hf.compute.trial import Misfit

# Rows that a router is tried with, and how many of them may be chosen for otherwise, for scores that nearly tie.
_PROBES, _TIES = 256, 2
_EXACT = 1e-4
# How much larger the row is that experts are asked of once more.
_LARGER = 8.0
_BEYOND = 4.0


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


class Gate(NamedTuple):
    """The step between the two products of an expert: activation(gate) times the others.

    In `order` `[2 * inner]` the columns of the first product are the gate's and then the others; as they are without.
    With a `limit` the gate is no larger, and the others are between it and its negative; `plus` is added to them.
    """

    order: Tensor | None
    activation: int
    limit: float = 0.0
    plus: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """Return `[..., inner]` of `[..., 2 * inner]`, float32."""
        gate, others = (x if self.order is None else x[..., self.order]).chunk(2, dim=-1)
        if self.limit:
            gate, others = gate.clamp(max=self.limit), others.clamp(-self.limit, self.limit)
        return activate(self.activation, gate) * (others + self.plus)


class ExpertPieces(NamedTuple):
    """A mixture of experts as the kernels know it.

    `module` holds `[experts, 2 * inner, hidden]`, whose columns `gate` takes, and `[experts, hidden, inner]`; both may
    have biases. `shared` `[1, hidden]` says how much of the part that all rows share is wanted.
    """

    router: ExpertRouter
    module: nn.Module
    gate: Gate
    shared: Tensor | None = None

    def depths(self) -> tuple[int, int]:
        """Return how deep the two products of an expert are."""
        ups, downs = (each for each in expert_weights(self.module)[0] if isinstance(each, Tensor))
        return ups.shape[1], downs.shape[1]


class PackedExperts:
    """A mixture of experts for the kernels; `struct` is what they read."""

    def __init__(self, pieces: ExpertPieces, form: Format, panels: Panels) -> None:
        router = pieces.router
        both = expert_weights(pieces.module, rounded=True)
        biases = expert_biases(pieces.module)
        order, memory = pieces.gate.order, SharedMemory(panels.kernels)
        self._ups, self._downs = (Linear * len(both))(), (Linear * len(both))()
        self._kept = list[Packed]()
        for at, ((up, down), (up_bias, down_bias)) in enumerate(zip(both, biases, strict=True)):
            for table, wanted in ((self._ups, _wanted(up, up_bias, order)), (self._downs, _wanted(down, down_bias))):
                packed = panels.pack(wanted, form, memory)
                table[at] = packed.struct
                self._kept.append(packed)
        rows = [router.weight] if pieces.shared is None else [router.weight, pieces.shared.float()]
        bias = router.bias if router.bias is None else nn.functional.pad(router.bias, (0, len(rows) - 1))
        packed = panels.pack(_wanted(torch.cat(rows), bias), Format.FLOAT32)
        self._kept.append(packed)
        self._favour = router.favour
        self.struct = ExpertsStruct(
            router=packed.struct,
            favour=None if router.favour is None else router.favour.data_ptr(),
            ups=ctypes.addressof(self._ups),
            downs=ctypes.addressof(self._downs),
            scale=router.scale,
            limit=pieces.gate.limit,
            plus=pieces.gate.plus,
            count=len(both),
            chosen=router.chosen,
            scoring=router.scoring,
            normalised=router.normalised,
            inner=self._downs[0].depth,
            activation=pieces.gate.activation,
            weighed=pieces.shared is not None,
        )


@torch.inference_mode()
def router_of(module: nn.Module, chosen: int) -> ExpertRouter | None:
    """Find the router that a module is, one that returns weights and places last; none where it is another."""
    exact = copy.deepcopy(module).float()
    own = [*exact.parameters(), *exact.buffers()]
    weights = [each for each in own if each.squeeze(0).dim() > 1]
    vectors = [each.detach().squeeze(0).float().contiguous() for each in own if each.squeeze(0).dim() == 1]
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

    `near` is how far it may be from what they made, as a part of its norm. They are asked once more for a row that is
    larger, for there may be a limit that what they were given did not reach.
    """
    if len(expert_weights(call.part)) != len(router.weight):
        return None
    ups = _products(call)
    typical = float(ups[0].abs().median().clamp_min(torch.finfo(torch.float32).tiny))
    enough = max(_LARGER, _BEYOND * max(_limits(call.part)) / typical)  # so that most of it goes beyond any limit
    larger = ExpertsCall(call.part, enough * call.given[:1], call.weights[:1], call.places[:1], call.made[:1])
    larger = larger._replace(made=call.part(larger.given, larger.places, larger.weights))
    one = _products(larger)[0]
    gates = list(_gates(call.part, ups.shape[-1]))
    for gate, made in zip(gates, _added(larger, 0, torch.stack([gate(one) for gate in gates])), strict=True):
        if _is_near(made, larger.made[0], near):
            every = [_added(call, row, gate(each)) for row, each in enumerate(ups)]
            if _is_near(torch.stack(every), call.made, near):
                return ExpertPieces(router, call.part, gate)
    return None


def _gates(part: nn.Module, columns: int) -> Iterator[Gate]:
    """Yield what may be between the products of experts, with limits among the numbers that the part has."""
    kinds = {kind for child in part.children() if (kind := activation_of(child)) is not None}
    places = torch.arange(columns)
    halves, turns = places.view(2, -1), places.view(-1, 2).T
    orders = (None, halves.flip(0).flatten(), turns.flatten(), turns.flip(0).flatten())
    for order, kind, limit, plus in product(orders, kinds or range(ACTIVATIONS), _limits(part), (0.0, 1.0)):
        yield Gate(order, kind, limit, plus)


def _limits(part: nn.Module) -> list[float]:
    """List what may limit products: nothing, and the positive numbers that the part has."""
    return [0.0, *(value for value in vars(part).values() if isinstance(value, float) and value > 0)]


def _products(call: ExpertsCall) -> Tensor:
    """Return what the first product of each chosen expert makes of each row, float32: `[rows, chosen, columns]`."""
    both, biases = expert_weights(call.part), expert_biases(call.part)
    rows = []
    for given, places in zip(call.given.float(), call.places.tolist(), strict=True):
        made = [nn.functional.linear(given, *_floats(both[at][0], biases[at][0])) for at in places]
        rows.append(torch.stack(made))
    return torch.stack(rows)


def _added(call: ExpertsCall, row: int, gated: Tensor) -> Tensor:
    """Return the weighed sum `[..., hidden]` of a row's second products, of `gated` `[..., chosen, inner]`."""
    both, biases = expert_weights(call.part), expert_biases(call.part)
    made = torch.zeros(*gated.shape[:-2], call.made.shape[-1])
    for x, at, weight in zip(gated.unbind(-2), call.places[row].tolist(), call.weights[row].float(), strict=True):
        made += weight * nn.functional.linear(x, *_floats(both[at][1], biases[at][1]))
    return made


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


def _wanted(weight: Tensor | Rounded, bias: Tensor | None, order: Tensor | None = None) -> WantedWeight:
    """Return a weight to be packed, its columns in another order."""
    columns, depth = (weight if isinstance(weight, Tensor) else weight.numbers).shape

    def make() -> tuple[Tensor | Rounded, Tensor | None]:
        if order is None:
            return weight, bias
        ordered = weight[order] if isinstance(weight, Tensor) else weight.ordered(order)
        return ordered, None if bias is None else bias[order]

    return WantedWeight(columns, depth, make)


def _floats(weight: Tensor | Rounded, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    plain = weight if isinstance(weight, Tensor) else weight.floats()
    return plain.float(), None if bias is None else bias.float()


def _is_near(found: Tensor, seen: Tensor, near: float) -> bool:
    return bool((found - seen.float()).norm() <= near * seen.float().norm())
