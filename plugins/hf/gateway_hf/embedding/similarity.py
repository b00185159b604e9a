"""How near two vectors are, by the names that sentence-transformers has for it: the higher, the nearer."""

from collections.abc import Callable

from torch import Tensor, nn


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    return nn.functional.cosine_similarity(one, other, dim=1)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=1)


def _euclidean(one: Tensor, other: Tensor) -> Tensor:
    return -nn.functional.pairwise_distance(one, other, eps=0.0)


def _manhattan(one: Tensor, other: Tensor) -> Tensor:
    return -(one - other).abs().sum(dim=1)


# Each takes two lists of vectors, (pairs, numbers), and returns (pairs,).
SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": _cosine,
    "dot": _dot,
    "dot_product": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}
