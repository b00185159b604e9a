"""Find the likeliest tokens."""

import torch
from torch import Tensor


def find_likeliest(logits: Tensor) -> Tensor:
    """Return the first of the likeliest tokens in each row of `logits` `[batch, vocabulary]`, int64 `[batch]`.

    A number that is none counts as the likeliest.
    """
    if logits.is_cpu:  # torch takes seven to ten times as long
        return torch.from_numpy(logits.numpy().argmax(axis=-1))
    return logits.max(dim=-1).indices
