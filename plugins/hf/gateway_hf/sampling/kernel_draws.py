"""Draw tokens by the kernels: all rows beside each other, and most of a vocabulary passed over."""

from collections.abc import Sequence

from torch import Tensor

from gateway_hf.compute.kernels import DrawStruct, Kernels
from gateway_hf.sampling.terms import Terms


def draw_by_kernels(
    kernels: Kernels, logits: Tensor, rows: Sequence[int], terms: Sequence[Terms], levels: Sequence[float]
) -> list[int | None]:
    """Draw a token of each of these rows of adjusted float32 `logits` `[batch, vocabulary]`, at a level from `(0, 1]`.

    That is how much of the row's probability, token after token, is passed. `None` where there is no number.
    """
    structs = [
        DrawStruct(row, max(0, min(term.top_k, logits.shape[-1])), term.temperature, term.min_p, term.top_p, level)
        for row, term, level in zip(rows, terms, levels, strict=True)
    ]
    tokens = kernels.draw(logits.contiguous(), (DrawStruct * len(structs))(*structs))
    return [token if token >= 0 else None for token in tokens]
