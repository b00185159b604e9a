"""Match what a decoder layer was seen to do with the pieces that the kernels put a layer together of.

Parts are known by what they were given and what they made, never by their names: a linear layer whose output is what
attention was given as values makes the values. All that lies between two parts must be one of a closed list (a norm, a
rotation, an activation), which is computed again here and compared.
"""

from collections.abc import Iterator
from itertools import permutations, product
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from gateway_hf.compute.columns import LinearCall, gates, layouts, same
from gateway_hf.compute.experts import ExpertPieces, find_experts
from gateway_hf.compute.kernels import HeadNorm, Heads
from gateway_hf.compute.norms import Norm, norm_of
from gateway_hf.compute.pieces import HeadPieces, LayerPieces, LinearModule, Projection, Rotation, activation_of
from gateway_hf.compute.rounded import plain_weight
from gateway_hf.compute.trace import AttentionCall, LayerTrace, PartCall
from gateway_hf.compute.trial import Misfit

# How far what is computed again may be from what was seen, as a part of its norm: a rounding or two.
_NEAR = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}
# Dimensions of queries that lie by heads, and linear layers of a feed-forward part without a gate and with one.
_BY_HEADS, _FEED = 4, (2, 3)
# How far a multiplier may be from what the states say of it, as a part of it.
_SCALE = 0.02


class Feed(NamedTuple):
    """The part behind attention, as it was found, and what it made."""

    given: Tensor
    made: Tensor
    up: tuple[Projection, ...]
    down: LinearModule | None
    activation: int
    gated: bool
    experts: ExpertPieces | None = None


def match_layer(trace: LayerTrace, heads: Heads) -> LayerPieces:
    """Find the pieces of a layer; raise `Misfit`, which says what is none."""
    return _Match(trace, heads).pieces()


class _Match:
    """The search through one layer's calls; each linear layer that is found is taken out of `_linears`."""

    def __init__(self, trace: LayerTrace, heads: Heads) -> None:
        if trace.asked is None or trace.before is None or trace.after is None:
            raise Misfit("a layer asks nothing of attention")
        self._trace = trace
        self._asked: AttentionCall = trace.asked
        self._before, self._after = trace.before, trace.after
        self._heads = heads
        self._near = _NEAR[trace.before.dtype]
        self._linears = [
            LinearCall(part, _rows(given), _rows(made))
            for part, given, made in trace.calls
            if isinstance(part, nn.Linear | Conv1D)
        ]
        self._others = [call for call in trace.calls if not isinstance(call.part, nn.Linear | Conv1D | nn.Dropout)]
        self._used: list[nn.Module] = []
        self._cosines = 0 if trace.turns is None else trace.turns[0].shape[-1]

    def pieces(self) -> LayerPieces:
        """Find all of them."""
        out = self._taken(next((each for each in self._linears if same(each.given, self._asked.answer)), None))
        given, heads = self._find_heads()
        feed = self._find_feed()
        before = self._norm_from(self._before, given)
        attended, branch = self._norm_behind(out.made)
        after, second = self._norm_behind(feed.made)
        parallel, middle, between = self._find_middle(feed.given, given, before)
        if parallel and (attended or after):
            raise Misfit("its two parts run beside each other, and are normed")
        scale = _scale(self._trace.layer, self._after - middle, branch + second if parallel else second)
        if not parallel:
            self._expect(middle, self._before + scale * branch, "what stands between attention and the rest")
        self._expect(self._after, middle + scale * (branch + second if parallel else second), "what it returns")
        own = {id(each) for part in self._used for each in part.parameters()} | {id(self._asked.sinks)}
        if left := [name for name, each in self._trace.layer.named_parameters() if id(each) not in own]:
            raise Misfit(f"its {left[0]} is no piece that the kernels have")
        return LayerPieces(
            *(heads, out.part, feed.up, feed.down, before, attended, between, after),
            *(feed.activation, feed.gated, parallel, scale, self._trace.companions, feed.experts),
        )

    def _find_heads(self) -> tuple[Tensor, HeadPieces]:
        """Find how queries, keys and values are made, and of what."""
        asked = (self._asked.query, self._asked.key)
        for (calls, qkv, raw), last in product(self._projections(), (False, True)):
            query, key = (self._head_norm(each, last=last) for each in (asked if last else raw))
            if (query[1] is not key[1] and None not in (query[0], key[0])) or (last and query[0] is None):
                continue
            before, behind = (raw, (query[2], key[2])) if last else ((query[2], key[2]), asked)
            # OPT multiplies its queries by what others multiply their scores by.
            for rotation, multiplier in product(Rotation, (1.0, self._heads.size**-0.5)):
                if not self._turns(multiplier * before[0].float(), behind[0], rotation):
                    continue
                if not self._turns(before[1], behind[1], rotation):
                    continue
                for call in calls:
                    self._taken(call)
                over = query[1] if query[0] is not None else key[1]
                norms, turning = (query[0], key[0], over, last), rotation.rotary(self._cosines)
                return calls[0].given, HeadPieces(qkv, *norms, rotation, turning, multiplier)
        raise Misfit("its queries, keys and values are made in no known way")

    def _projections(self) -> Iterator[tuple[list[LinearCall], tuple[Projection, ...], tuple[Tensor, Tensor]]]:
        """Yield linear layers that may make queries, keys and values, with the queries and keys that they make."""
        heads, value = self._heads, self._asked.value.flatten(1)
        queries, keys = heads.queries * heads.size, heads.keys * heads.size
        for call in self._linears:
            if call.made.shape[-1] == queries + 2 * keys:
                for order in layouts(heads):
                    made = call.made[:, order]
                    if same(made[:, queries + keys :], value):
                        yield (
                            [call],
                            (Projection(call.part, order),),
                            self._split(made[:, :queries], made[:, queries:-keys]),
                        )
            if not same(call.made, value):
                continue
            beside = [each for each in self._linears if each is not call and same(each.given, call.given)]
            for q, k in permutations(beside, 2):
                if q.made.shape[-1] == queries and k.made.shape[-1] == keys:
                    own = [q, k, call]
                    yield own, tuple(Projection(each.part) for each in own), self._split(q.made, k.made)

    def _split(self, *flat: Tensor) -> tuple[Tensor, Tensor]:
        query, key = (each.reshape(len(each), -1, self._heads.size) for each in flat)
        return query, key

    def _head_norm(self, seen: Tensor, *, last: bool) -> tuple[Norm | None, HeadNorm, Tensor]:
        """Find the norm that is given, or makes, queries or keys `[rows, heads, size]`; return the other side too."""
        heads, size = seen.shape[1:]
        for call in self._others:
            for by_rows in (True, False):
                given, made = (_by_row(each, by_rows) for each in (call.given, call.made))
                if given is None or made is None or not same(made if last else given, seen.flatten(1)):
                    continue
                own = any(each.dim() > 1 for each in call.part.parameters())
                whole = call.given.shape[-1] != size
                over = HeadNorm.OWN_WEIGHTS if own else HeadNorm.ALL_HEADS if whole else HeadNorm.EACH_HEAD
                shape = (heads, size) if own else (heads * size if whole else size,)
                return self._norm(call, shape), over, (given if last else made).view(seen.shape)
        return None, HeadNorm.EACH_HEAD, seen

    def _turns(self, x: Tensor, seen: Tensor, rotation: Rotation) -> bool:
        """Say whether a rotation makes of `x` `[rows, heads, size]` what attention was given."""
        turned = rotation.turned(x.float(), self._trace.turns)
        return turned is not None and self._is_near(turned, seen.float())

    def _find_feed(self) -> Feed:
        """Find what is behind attention."""
        if not self._trace.experts:
            return self._find_dense()
        pieces, given, made = find_experts(self._trace, self._near)
        self._used += [pieces.module, self._trace.routers[0].part]
        if not self._linears:
            return Feed(given, made, (), None, 0, gated=True, experts=pieces)
        weigher = next((each for each in self._linears if each.made.shape[-1] == 1), None)
        if weigher is not None:
            pieces = pieces._replace(shared=plain_weight(self._taken(weigher).part))
        feed = self._find_dense()
        if not same(feed.given, given) or (weigher is not None and not same(weigher.given, given)):
            raise Misfit("its experts and what all rows share are given different states")
        shared = feed.made if weigher is None else weigher.made.sigmoid() * feed.made
        return feed._replace(made=made + shared, experts=pieces)

    def _find_dense(self) -> Feed:
        """Find linear layers, and what is between them."""
        if len(self._linears) not in _FEED:
            raise Misfit(f"behind attention it has {len(self._linears)} linear layers")
        *ups, down = self._linears
        for call in self._others:
            if (kind := activation_of(call.part)) is None:
                continue
            given, made = _rows(call.given), _rows(call.made)
            if len(ups) == 1 and same(given, ups[0].made) and same(made, down.given):
                self._used += [ups[0].part, down.part]
                return Feed(ups[0].given, down.made, (Projection(ups[0].part),), down.part, kind, gated=False)
            for up_pieces, gate, other in gates(ups):
                if same(given, gate) and self._is_near(down.given.float(), made.float() * other.float()):
                    self._used += [down.part, *(each.part for each in ups)]
                    return Feed(ups[0].given, down.made, up_pieces, down.part, kind, gated=True)
        raise Misfit("its activation is none that the kernels have")

    def _find_middle(self, given: Tensor, first: Tensor, before: Norm | None) -> tuple[bool, Tensor, Norm | None]:
        """Say whether the second part runs beside attention, what states it begins with, and how they are normed."""
        if same(given, first):
            # There may be a second norm that makes the same.
            self._used += [call.part for call in self._others if same(_rows(call.made), given)]
            return True, self._before, before
        for call in self._others:
            if same(_rows(call.made), given) and call.part not in self._used:
                middle = _rows(call.given)
                return same(middle, self._before), middle, self._norm(call, (given.shape[-1],))
        return False, given, None

    def _norm_from(self, x: Tensor, made: Tensor) -> Norm | None:
        """Return the norm that makes this of `x`, none where it is the same."""
        if same(x, made):
            return None
        for call in self._others:
            if same(_rows(call.given), x) and same(_rows(call.made), made):
                return self._norm(call, (x.shape[-1],))
        raise Misfit("attention begins with something else than a norm of the states")

    def _norm_behind(self, x: Tensor) -> tuple[Norm | None, Tensor]:
        """Return the norm that `x` is given to, and what it makes; none, and `x`, where there is no such."""
        for call in self._others:
            if same(_rows(call.given), x) and not same(_rows(call.made), x):
                return self._norm(call, (x.shape[-1],)), _rows(call.made)
        return None, x

    def _norm(self, call: PartCall, shape: tuple[int, ...]) -> Norm:
        self._used.append(call.part)
        if (found := norm_of(call.part, shape)) is None:
            raise Misfit("it has a norm that is none that the kernels have")
        return found._replace(reach=_rows(call.made).abs().amax(0))

    def _taken(self, call: LinearCall | None) -> LinearCall:
        if call is None:
            raise Misfit("what attention answers goes through no linear layer")
        self._linears = [each for each in self._linears if each is not call]
        self._used.append(call.part)
        return call

    def _expect(self, seen: Tensor, found: Tensor, what: str) -> None:
        if not self._is_near(seen.float(), found.float()):
            raise Misfit(f"{what} is no sum of its parts")

    def _is_near(self, found: Tensor, seen: Tensor) -> bool:
        return found.shape == seen.shape and bool((found - seen).norm() <= self._near * seen.norm())


def _scale(layer: nn.Module, added: Tensor, branch: Tensor) -> float:
    """Find what a branch is multiplied by before it is added: a number that the layer has, if not 1."""
    scale = float((added.double() * branch.double()).sum() / branch.double().square().sum())
    known = [1.0, *(value for value in vars(layer).values() if isinstance(value, float))]
    nearest = min(known, key=lambda value: abs(value - scale))
    return nearest if abs(nearest - scale) <= _SCALE * abs(scale) else 1.0


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _by_row(x: Tensor, by_rows: bool) -> Tensor | None:  # noqa: FBT001 - one of two layouts
    """Return `[rows, heads * size]` of what may lie by rows, or by heads; none where it cannot lie so."""
    if x.dim() == _BY_HEADS:
        return x[0].flatten(1) if by_rows else x[0].transpose(0, 1).flatten(1)
    return _rows(x) if by_rows else None
