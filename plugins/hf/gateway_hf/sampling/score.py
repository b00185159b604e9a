"""Score prompts: how likely the model found each of their tokens, and what it would have liked better."""

import torch
from torch import Tensor

from gateway.engine import EngineError
from gateway_hf.scheduling.sequence import Alternative, Sequence

# Rows that are turned into probabilities at once: their copies stay small beside the logits.
_ROWS = 32


def score(sequence: Sequence, logits: Tensor) -> None:
    """Append the next scores of a sequence; raise `EngineError` where the logits are no numbers.

    `logits` is float32 `[tokens, vocabulary]`, not adjusted: a row for each of the next tokens to be scored, which is
    what the model said before it.
    """
    first = len(sequence.scores) + 1
    tokens = sequence.tokens[first : first + len(logits)]
    followed = torch.tensor(tokens, dtype=torch.long, device=logits.device)[:, None]
    for rows, own in zip(torch.split(logits, _ROWS), torch.split(followed, _ROWS), strict=True):
        natural = rows.log_softmax(dim=-1)
        likeliest = natural.topk(min(sequence.ranks or 0, natural.shape[-1])).indices
        ids = torch.cat([own, likeliest], dim=1)
        logprobs = natural.gather(1, ids)
        if bool(logprobs.isnan().any()):
            raise EngineError("the model computed no valid probabilities for the prompt")
        ranked = zip(ids.tolist(), logprobs.tolist(), strict=True)
        sequence.scores += [tuple(map(Alternative, *each)) for each in ranked]
