"""Calls of linear layers, and which columns of what they make may be what."""

from collections.abc import Iterator
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

from gateway_hf.compute.kernels import Heads
from gateway_hf.compute.pieces import LinearModule, Projection


class LinearCall(NamedTuple):
    """A call of a linear layer, by rows."""

    part: LinearModule
    given: Tensor
    made: Tensor


def gates(ups: list[LinearCall]) -> Iterator[tuple[tuple[Projection, ...], Tensor, Tensor]]:
    """Yield what may be a gate, and what it is for: one of two layers, or one half of what a single layer makes."""
    if len(ups) > 1:
        for gate, up in permutations(ups):
            yield (Projection(gate.part), Projection(up.part)), gate.made, up.made
        return
    (both,) = ups
    half, rest = divmod(both.made.shape[-1], 2)
    for places in permutations((torch.arange(half), torch.arange(half, 2 * half))) if not rest else ():
        first, second = places
        yield (Projection(both.part, torch.cat(places)),), both.made[:, first], both.made[:, second]


def layouts(heads: Heads) -> Iterator[Tensor]:
    """Yield where queries, keys and values may lie in what one layer makes: the columns of each, kind after kind."""
    group = heads.queries // heads.keys
    places = torch.arange((heads.queries + 2 * heads.keys) * heads.size)
    yield places
    by_group = places.view(heads.keys, group + 2, heads.size)
    yield torch.cat([by_group[:, :group].flatten(), by_group[:, group].flatten(), by_group[:, group + 1].flatten()])


def same(a: Tensor, b: Tensor) -> bool:
    """Say whether these are the same numbers."""
    return a.shape == b.shape and torch.equal(a, b)
