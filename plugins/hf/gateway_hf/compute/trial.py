"""The trial at load: a forward must say what the model's own `generate()` says, row by row."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from gateway.engine import LoadFailed
from gateway_hf.compute.adapters import Adapters, AdapterSpan
from gateway_hf.compute.forward import Forward
from gateway_hf.compute.kernels import BLOCK
from gateway_hf.compute.reference import ReferenceAnswers
from gateway_hf.scheduling.scheduler import Chunk
from gateway_hf.scheduling.sequence import Sequence

_log = logging.getLogger("gateway_hf")

_PROMPT = 40
_NEW = 4
# How many tokens of each of the two sequences a step reads: one prompt in two chunks and one whole, beside each other,
# and then token by token. The second chunk is short: what a model forgets at a chunk's end is not yet made up for.
_STEPS = ((_PROMPT - 3, _PROMPT), (3, 1), (1, 1), (1, 1), (1, 0))
# What models call the span of tokens that a layer sees, and a span that a chunk of the trial goes beyond.
_SPANS = ("sliding_window", "attention_window_size", "attention_chunk_size", "index_topk")
_NARROW = 8
_BLOCKS = -(-(_PROMPT + _NEW) // BLOCK)
# What the trial needs of the cache.
TRIAL_BLOCKS = len(_STEPS[0]) * _BLOCKS


class Misfit(Exception):
    """A forward says something else than the model."""


class Trial:
    """Two prompts of random tokens, and what `generate()` says: the tokens, and the logits that it drew them from.

    It reads them together, which is faster, or each `alone`: not every model says the same to both. Its sequences have
    the adapter of this number. Answers `known` from an earlier start are not generated again.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        alone: bool = False,
        adapter: int = 0,
        known: ReferenceAnswers | None = None,
    ) -> None:
        self._adapter = adapter
        self._known = known
        prompts = _random_prompts(model)
        found = None if known is None else known.find(prompts)
        self.recalled = found is not None
        if found is not None:
            self._tokens, self._said = found[0].tolist(), found[1]
            return
        answers = [_generated(model, each) for each in (torch.split(prompts, 1) if alone else (prompts,))]
        self._tokens = [tokens for sequences, _ in answers for tokens in sequences]
        self._said = torch.cat([said for _, said in answers], dim=1)

    def keep(self) -> None:
        """Keep for a later start what was generated, where there is a place for it."""
        if self._known is not None and not self.recalled:
            self._known.keep(torch.tensor(self._tokens), self._said)

    @property
    def has_numbers(self) -> bool:
        """Whether the model computes numbers at all."""
        return not bool(self._said.isnan().any())

    @torch.inference_mode()
    def check(self, forward: Forward, tolerance: float, how: str) -> None:
        """Raise `Misfit` unless a forward says the same after both prompts and after each token that follows them.

        `tolerance` is how far a row of logits may be from the model's, by the norm of the difference as a part of the
        norm of the row without its mean; nonsense is off by 1 or more.
        """
        distances = list(self._distances(forward))
        _log.debug("%s the model is off by %.3g", how, max(distances))
        for off in distances:
            if not off <= tolerance:  # no number is no agreement
                raise Misfit(f"{how} it says something else (off by {off:.3g})")

    def _distances(self, forward: Forward) -> Iterator[float]:
        sequences = [Sequence(tokens[:_PROMPT], adapter=self._adapter) for tokens in self._tokens]
        for at, sequence in enumerate(sequences):
            sequence.blocks = list(range(at * _BLOCKS, (at + 1) * _BLOCKS))
        try:
            for sizes in _STEPS:
                chunks = [Chunk(each, size) for each, size in zip(sequences, sizes, strict=True) if size]
                logits, counts = forward.logits(chunks)
                rows = iter(logits.cpu())
                for chunk, count in zip(chunks, counts, strict=True):
                    chunk.sequence.computed += chunk.tokens
                    if count:
                        yield self._distance(sequences.index(chunk.sequence), chunk.sequence, next(rows))
        finally:
            for sequence in sequences:
                forward.forget(sequence)

    def _distance(self, which: int, sequence: Sequence, row: Tensor) -> float:
        """Compare a row with what was said after as many tokens, and append the token that was drawn then."""
        said = self._said[len(sequence.tokens) - _PROMPT, which]
        sequence.tokens.append(self._tokens[which][len(sequence.tokens)])
        return float((row - said).norm() / (said - said.mean()).norm())


class Trials:
    """The trial of a model as it is, and one with each adapter; raise `LoadFailed` for one that fails.

    With adapters nothing `known` is used: that their layers are called is seen while the model generates.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        adapters: Adapters,
        *,
        alone: bool = False,
        known: ReferenceAnswers | None = None,
    ) -> None:
        self._plain = Trial(model, alone=alone, known=None if adapters.names else known)
        self._adapted: dict[str, Trial] = {}
        for number, name in enumerate(adapters.names, 1):
            with adapters.over([AdapterSpan(number)]):
                self._adapted[name] = trial = Trial(model, alone=alone, adapter=number)
            if (layer := adapters.unheard(name)) is not None:
                raise LoadFailed(
                    f"the adapter '{name}' changes '{layer}', which the model's code does not call as a layer"
                )
            if self.has_numbers and not trial.has_numbers:
                raise LoadFailed(f"with the adapter '{name}' the model computes no numbers")

    @property
    def has_numbers(self) -> bool:
        """Whether the model computes numbers at all."""
        return self._plain.has_numbers

    @property
    def recalled(self) -> bool:
        """Whether what the model says is known of an earlier start."""
        return self._plain.recalled

    def keep(self) -> None:
        """Keep for a later start what the model said as it is."""
        self._plain.keep()

    def check(self, forward: Forward, tolerance: float, how: str) -> None:
        """Raise `Misfit` unless a forward says what the model says, as it is and with each adapter."""
        self._plain.check(forward, tolerance, how)
        for name, trial in self._adapted.items():
            trial.check(forward, tolerance, f"with the adapter '{name}' {how}")


@contextmanager
def narrowed(model: PreTrainedModel) -> Iterator[bool]:
    """Let layers that see a span of tokens see a very short one meanwhile; give whether there are such layers."""
    holders: list[Any] = [model.config.get_text_config(), *model.modules()]
    spans = [
        (holder, name, span)
        for holder in holders
        for name in _SPANS
        if isinstance(span := getattr(holder, name, None), int) and span > _NARROW
    ]
    try:
        for holder, name, _ in spans:
            setattr(holder, name, _NARROW)
        yield bool(spans)
    finally:
        for holder, name, span in spans:
            setattr(holder, name, span)


@torch.inference_mode()
def _generated(model: PreTrainedModel, prompts: Tensor) -> tuple[list[list[int]], Tensor]:
    """Let the model continue the prompts; return the tokens and the logits `[new, prompts, vocabulary]`."""
    plain = GenerationConfig(max_new_tokens=_NEW, output_logits=True, return_dict_in_generate=True)  # type: ignore[no-untyped-call] # so is the library
    generator: Any = model
    # What the model's files say of sampling is no matter here, and may forbid what is asked.
    own, generator.generation_config = generator.generation_config, plain
    try:
        out = generator.generate(prompts, attention_mask=torch.ones_like(prompts))
    finally:
        generator.generation_config = own
    return out.sequences.tolist(), torch.stack(out.logits).float().cpu()


def _random_prompts(model: PreTrainedModel) -> Tensor:
    """Draw prompts of tokens that mean nothing special: that of an image would ask for one."""
    config = model.config.get_text_config()
    likely = torch.ones(config.vocab_size)
    for name, value in config.to_dict().items():
        if name.endswith(("_token_id", "_token_index")) and isinstance(value, int) and 0 <= value < len(likely):
            likely[value] = 0
    drawn = likely.multinomial(len(_STEPS[0]) * _PROMPT, replacement=True, generator=torch.Generator().manual_seed(0))
    return drawn.view(-1, _PROMPT).to(model.device)
