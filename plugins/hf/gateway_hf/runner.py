"""Run the model over the tokens that a step asks for, and draw what comes next."""

import itertools
import logging
from collections.abc import Sequence as Some

import torch
from torch import Tensor

from gateway.engine import EngineError, InvalidRequest
from gateway_hf.compute.forward import Forward
from gateway_hf.compute.kernels import Kernels
from gateway_hf.constrain.thought_guide import AnswerGuide
from gateway_hf.sampling.sampler import Draws, sample
from gateway_hf.sampling.score import score
from gateway_hf.sampling.terms import Terms
from gateway_hf.scheduling.scheduler import Chunk
from gateway_hf.scheduling.sequence import Alternative, Drawn, Sequence

_log = logging.getLogger("gateway_hf")

StepOutcome = list[Drawn] | BaseException


class Runner:
    """Owns the model and the draws, which `kernels` make where there are such; used by one thread."""

    def __init__(self, forward: Forward, kernels: Kernels | None = None) -> None:
        self._forward = forward
        self._kernels = kernels
        self._terms: dict[Sequence, Terms] = {}
        self._guides: dict[Sequence, AnswerGuide] = {}
        self._draws: dict[Sequence, Draws] = {}

    def join(self, sequence: Sequence, terms: Terms, guide: AnswerGuide | None = None) -> None:
        """Say how a sequence is drawn, before its first step."""
        self._terms[sequence] = terms
        if guide is not None:
            self._guides[sequence] = guide

    def forget(self, sequence: Sequence) -> None:
        """Free what a sequence holds; harmless when it holds nothing."""
        self._forward.forget(sequence)
        self._terms.pop(sequence, None)
        self._guides.pop(sequence, None)
        self._draws.pop(sequence, None)

    @torch.inference_mode()
    def run(self, chunks: Some[Chunk]) -> list[StepOutcome]:
        """Compute chunks; append what is drawn to each sequence that has no more pending, and say it.

        An outcome is the tokens drawn (none while a prompt is being read, several where a draft proved right or a
        grammar forced them) or what went wrong with that sequence alone. Forced tokens are left pending.
        """
        try:
            logits, counts = self._forward.logits(chunks)
        except BaseException as error:  # noqa: BLE001 - a model may raise anything, and not for all
            if len(chunks) == 1:
                _log.exception("a pass failed for one sequence")
                return [error]
            return [outcome for chunk in chunks for outcome in self.run([chunk])]
        return self._draw(chunks, logits, list(itertools.accumulate(counts)))

    def _draw(self, chunks: Some[Chunk], logits: Tensor, ends: list[int]) -> list[StepOutcome]:
        """Draw row after row of each chunk, all chunks at once, for as long as its draft proves right.

        The rows of each chunk end where `ends` says; those before the ones to draw from score the prompt.
        """
        counts = [chunk.draws for chunk in chunks]
        firsts = [end - count for end, count in zip(ends, counts, strict=True)]
        outcomes = [self._begin(chunk, logits, first) for chunk, first in zip(chunks, firsts, strict=True)]
        turn = [at for at, count in enumerate(counts) if count and outcomes[at] == []]
        for chunk, count in zip(chunks, counts, strict=True):
            if not count:
                chunk.sequence.computed += chunk.tokens
        depth = 0
        while turn:
            rows = logits if len(turn) == len(logits) else logits[[firsts[at] + depth for at in turn]]
            drawn = self._sample([chunks[at].sequence for at in turn], rows)
            following = []
            for number, (at, each) in enumerate(zip(turn, drawn, strict=True)):
                sequence, outcome = chunks[at].sequence, outcomes[at]
                if each is None:
                    outcomes[at] = self._draws[sequence].fault or _no_token(self._terms[sequence], rows[number])
                    continue
                guess = sequence.draft[depth] if depth + 1 < counts[at] else None
                sequence.tokens.append(each.id)
                sequence.computed = len(sequence.tokens) - 1
                if isinstance(outcome, list):
                    outcome.append(each)
                if guess == each.id:
                    following.append(at)
                elif sequence in self._guides and isinstance(outcome, list) and each.logprobs == ():
                    outcome += self._force(sequence, self._guides[sequence])
            turn, depth = following, depth + 1
        return outcomes

    def _force(self, sequence: Sequence, guide: AnswerGuide) -> list[Drawn]:
        """Append what must follow; the model reads it in the next pass, with the last token that was drawn."""
        forced = self._draws[sequence].take_forced(guide)
        sequence.tokens += forced
        return [Drawn(token) for token in forced]

    def _sample(self, sequences: Some[Sequence], logits: Tensor) -> list[Drawn | None]:
        draws = [self._draws[sequence] for sequence in sequences]
        asked = [drawing.terms.logprobs for drawing in draws]
        natural = logits.log_softmax(dim=-1) if any(count is not None for count in asked) else None
        drawn: list[Drawn | None] = []
        for at, token in enumerate(sample(logits, draws, self._kernels)):
            count = asked[at]
            if token is None or draws[at].fault is not None:
                drawn.append(None)
            elif natural is None or count is None:
                drawn.append(Drawn(token))
            else:
                drawn.append(Drawn(token, _alternatives(natural[at], token, count)))
        return drawn

    def _begin(self, chunk: Chunk, logits: Tensor, end: int) -> StepOutcome:
        """Make ready to draw for a chunk, and score what it read of its prompt by the rows that end at `end`."""
        sequence = chunk.sequence
        try:
            if sequence not in self._draws and chunk.draws:
                prompt = sequence.tokens[: sequence.prompt_tokens]
                terms, guide = self._terms[sequence], self._guides.get(sequence)
                self._draws[sequence] = Draws(terms, prompt, logits.shape[-1], logits.device, guide)
            if sequence.scoring:
                score(sequence, logits[end - (chunk.wanted - chunk.draws) : end])
        except BaseException as error:  # noqa: BLE001 - an error of one sequence is no reason to draw for none
            return error
        return []


def _no_token(terms: Terms, logits: Tensor) -> EngineError:
    """Say why there is nothing to draw from a row of adjusted logits `[vocabulary]`."""
    if terms.has_bans and not bool(logits.isnan().any()):
        param = "allowed_token_ids" if terms.allowed_token_ids else "bad_words"
        return InvalidRequest(f"{param}: all tokens that could come next are banned; allow more", param=param)
    return EngineError("the model computed no valid probabilities for the next token")


def _alternatives(logprobs: Tensor, token: int, count: int) -> tuple[Alternative, ...]:
    values, ids = logprobs.topk(min(count, logprobs.shape[-1]))
    ranked = zip([token, *ids.tolist()], [logprobs[token].item(), *values.tolist()], strict=True)
    return tuple(Alternative(each, logprob) for each, logprob in ranked)
