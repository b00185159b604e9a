"""Weights rounded to bytes in wide groups, for rows that are smoothed before (Xiao et al. 2023, SmoothQuant).

A few numbers of a layer's states go many times as far as the others, in all rows. Beside them, in a group with one
scale, the others have few places left. So what goes far is divided, and its weights are multiplied by as much.
"""

import torch
from torch import Tensor

from gateway_hf.compute.rounded import BYTE_GROUPS, WIDE_GROUPS, Rounded, round_groups

# Binary places by which a number is moved at most.
_FARTHEST = 8


def round_widely(weight: Tensor, reach: Tensor | None = None) -> Rounded:
    """Round `[columns, depth]` to bytes, symmetric, in groups as large as fit.

    With `reach` `[depth]`, how far numbers of rows go, it is for rows that were divided by the factors it is given.
    """
    group = next(size for size in (*WIDE_GROUPS, *BYTE_GROUPS) if weight.shape[1] % size == 0)
    if reach is None:
        return round_groups(weight, group, 127)
    factors = _smoothing(reach.float(), weight.abs().amax(0).float())
    return round_groups(weight.float() * factors, group, 127)._replace(factors=factors)


def _smoothing(reach: Tensor, own: Tensor) -> Tensor:
    """Return factors `[depth]` by which rows and weights go alike far: powers of two, so that they round nothing."""
    places = (reach.log2() - own.log2()) / 2
    known = places.isfinite()
    middle = places[known].mean() if bool(known.any()) else 0.0
    return torch.where(known, places - middle, 0.0).round().clamp(-_FARTHEST, _FARTHEST).exp2()
