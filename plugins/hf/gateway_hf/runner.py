"""Run the model over the tokens that a step asks for, one sequence a forward, and draw what comes next."""

import inspect

import torch
from torch import Tensor
from transformers import PreTrainedModel

from gateway.engine import EngineError
from gateway_hf.cache import Caches
from gateway_hf.sampler import Draws, sample
from gateway_hf.sequence import Alternative, Drawn, Sequence
from gateway_hf.terms import Terms


class Runner:
    """Owns the model, the caches and the draws; used by one thread."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._caches = Caches(model.config)
        self._draws: dict[Sequence, Draws] = {}
        takes = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    @torch.inference_mode()
    def advance(self, sequence: Sequence, tokens: int, terms: Terms) -> Drawn | None:
        """Read the next `tokens` pending tokens; draw one, and append it, when none is pending any more.

        Raises what the model raises, and `EngineError` when it computed no numbers to draw from.
        """
        logits = self._forward(sequence, tokens)
        return None if sequence.pending else self._draw(sequence, logits, terms)

    def forget(self, sequence: Sequence) -> None:
        """Free what a sequence holds; harmless when it holds nothing."""
        self._caches.free(sequence)
        self._draws.pop(sequence, None)

    def _forward(self, sequence: Sequence, tokens: int) -> Tensor:
        """Return the logits `[1, vocabulary]` of the last of the next `tokens` tokens."""
        end = sequence.computed + tokens
        ids = torch.tensor([sequence.tokens[sequence.computed : end]], device=self._model.device)
        cache = self._caches.of(sequence)
        logits: Tensor = self._model(input_ids=ids, past_key_values=cache, use_cache=True, **self._last_only).logits
        sequence.computed = end
        return logits[:, -1]

    def _draw(self, sequence: Sequence, logits: Tensor, terms: Terms) -> Drawn:
        if sequence not in self._draws:
            self._draws[sequence] = Draws(terms, sequence.tokens, logits.shape[-1], logits.device)
        logits = logits.float()
        natural = logits.log_softmax(dim=-1)[0] if terms.logprobs is not None else None
        (token,) = sample(logits, [self._draws[sequence]])
        if token is None:
            raise EngineError("the model computed no valid probabilities for the next token")
        sequence.tokens.append(token)
        if natural is None:
            return Drawn(token)
        return Drawn(token, _alternatives(natural, token, terms.logprobs or 0))


def _alternatives(logprobs: Tensor, token: int, count: int) -> tuple[Alternative, ...]:
    values, ids = logprobs.topk(min(count, logprobs.shape[-1]))
    ranked = zip([token, *ids.tolist()], [logprobs[token].item(), *values.tolist()], strict=True)
    return tuple(Alternative(each, logprob) for each, logprob in ranked)
