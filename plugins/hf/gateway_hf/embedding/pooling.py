"""From the states of a text's tokens to its one vector."""

from collections.abc import Callable

import torch
from torch import Tensor


def pool(states: Tensor, mask: Tensor, poolings: tuple[str, ...]) -> Tensor:
    """Return the vectors, float32 of shape (texts, numbers), of states (texts, tokens, size).

    `mask` (texts, tokens) is true where a token counts; at least one does in every text.
    """
    states = states.float()
    return torch.cat([_POOLINGS[name](states, mask) for name in poolings], dim=1)


def _first(states: Tensor, mask: Tensor) -> Tensor:
    return _pick(states, mask.int().argmax(dim=1))


def _last(states: Tensor, mask: Tensor) -> Tensor:
    return _pick(states, mask.shape[1] - 1 - mask.flip(1).int().argmax(dim=1))


def _pick(states: Tensor, places: Tensor) -> Tensor:
    return states[torch.arange(len(states), device=states.device), places]


def _max(states: Tensor, mask: Tensor) -> Tensor:
    return states.masked_fill(~mask[:, :, None], float("-inf")).amax(dim=1)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    return _sum(states, mask.float()) / mask.sum(dim=1, keepdim=True)


def _mean_sqrt(states: Tensor, mask: Tensor) -> Tensor:
    return _sum(states, mask.float()) / mask.sum(dim=1, keepdim=True).float().sqrt()


def _weighted(states: Tensor, mask: Tensor) -> Tensor:
    """Weigh each token by its place: the later, the more."""
    weights = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return _sum(states, weights.float()) / weights.sum(dim=1, keepdim=True)


def _sum(states: Tensor, weights: Tensor) -> Tensor:
    return torch.bmm(weights[:, None, :], states).squeeze(1)


_POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "first": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt": _mean_sqrt,
    "weighted": _weighted,
    "last": _last,
}
