"""One sequence a pass, by the steps of transformers' own `generate()`: for models that cannot be batched."""

import inspect
from collections.abc import Sequence as Some
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.configuration_utils import GenerationMode
from transformers.generation.utils import ALL_CACHE_NAMES

from gateway.engine import EngineError
from gateway_hf.scheduling.scheduler import Chunk
from gateway_hf.scheduling.sequence import Sequence
from gateway_hf.steps import StepCount


class Reading(Enum):
    """How a sequence is read, the fastest way first; the value says it on the model's card."""

    CHUNKS = "prompts are read in chunks"
    WHOLE = "each prompt is read in one pass"
    ANEW = "all is read again for each token"

    def suits(self, model: PreTrainedModel) -> bool:
        """Tell whether a model could be read so at all: one that takes no cache is always read anew."""
        takes = inspect.signature(model.forward).parameters.keys()
        return self is Reading.ANEW or not takes.isdisjoint(ALL_CACHE_NAMES)


class _State(NamedTuple):
    """The arguments that `generate()` would carry on to its next step, the model's cache among them, and its length."""

    arguments: dict[str, Any]
    held: int


class SerialForward:
    """Computes chunk after chunk with the model's own attention and its own cache, whatever that is."""

    def __init__(self, model: PreTrainedModel, reading: Reading, steps: StepCount | None = None) -> None:
        self.steps = steps or StepCount()
        self._model: Any = model  # that it can generate is no part of its type
        self._reading = reading
        self._states: dict[Sequence, _State] = {}
        self._takes = inspect.signature(model.forward).parameters.keys()
        self._keeps = "logits_to_keep" in self._takes

    def logits(self, chunks: Some[Chunk]) -> tuple[Tensor, list[int]]:
        """Compute chunk after chunk."""
        self.steps.tick()
        said = [self._compute(chunk) for chunk in chunks]
        rows = [each for each in said if len(each)]
        return torch.cat(rows) if rows else torch.empty(0, 0), [len(each) for each in said]

    def forget(self, sequence: Sequence) -> None:
        """Drop the cache of a sequence."""
        self._states.pop(sequence, None)

    def _compute(self, chunk: Chunk) -> Tensor:
        """Return the logits `[wanted, vocabulary]` after the last tokens of a chunk."""
        sequence, tokens = chunk
        wanted, end = chunk.wanted, sequence.computed + tokens
        last = end == len(sequence.tokens)
        if self._reading is Reading.CHUNKS:
            return self._go_on(sequence, end, wanted)
        if not wanted:
            return torch.empty(0, 0)  # a prompt that is read whole is read with its last chunk
        if self._reading is Reading.WHOLE and last and tokens == 1:
            return self._go_on(sequence, end, wanted)
        return self._read_whole(sequence, range(end - wanted, end))

    def _go_on(self, sequence: Sequence, end: int, wanted: int) -> Tensor:
        """Read up to `end` from where the cache of the sequence ends."""
        state = self._states.pop(sequence, None)
        if state is None or state.held != sequence.computed:
            # It is new, or was preempted, or was read in a pass that failed for others: it begins anew.
            state = self._new_state()
        # To keep none is, to transformers, to keep all.
        logits, state = self._step(sequence.tokens[:end], state, max(wanted, 1))
        self._states[sequence] = state
        return _last(logits, wanted)

    def _read_whole(self, sequence: Sequence, rows: range) -> Tensor:
        """Read all tokens in one pass, those behind `rows` too: the length may decide how the first ones are read."""
        count = len(sequence.tokens)
        some = rows.stop < count
        kept = torch.arange(rows.start, rows.stop, device=self._model.device) if some else len(rows)
        try:
            logits, state = self._step(sequence.tokens, self._new_state(), kept)
        except IndexError as error:
            if not some:
                raise
            # It has no such rows, as XLNet, which says nothing of a prompt but of its last token.
            raise _not_scored() from error
        if self._reading is Reading.WHOLE:
            self._states[sequence] = state
        if some and not self._keeps:
            logits = logits[: rows.stop]
        return _last(logits, len(rows))

    def _new_state(self) -> _State:
        cached = self._reading is not Reading.ANEW
        arguments: dict[str, Any] = {"use_cache": cached}
        if "attention_mask" in self._takes:
            arguments["attention_mask"] = None
        if cached:
            self._model._prepare_cache_for_generation(  # noqa: SLF001 - the one place that knows each model's cache
                GenerationConfig(),  # type: ignore[no-untyped-call] # so is the library
                arguments,
                GenerationMode.GREEDY_SEARCH,
                1,
                0,
            )
        return _State(arguments, 0)

    def _step(self, tokens: list[int], state: _State, kept: int | Tensor) -> tuple[Tensor, _State]:
        """Read `tokens` from `state.held` on, as `generate()` does; return the logits `[rows, vocabulary]`."""
        ids, end = torch.tensor([tokens], device=self._model.device), len(tokens)
        arguments = dict(state.arguments)
        if "position_ids" in self._takes:
            # Reformer has none of its own, though it takes some: it would count them twice.
            arguments["position_ids"] = self._model._prepare_position_ids_for_generation(ids, {})  # noqa: SLF001 - as above
        if self._keeps:
            arguments["logits_to_keep"] = kept
        inputs = self._model.prepare_inputs_for_generation(
            ids,
            next_sequence_length=end - state.held if arguments["use_cache"] else None,
            is_first_iteration=state.held == 0,
            **arguments,
        )
        out: Any = self._model(**inputs, return_dict=True)
        after = self._model._update_model_kwargs_for_generation(out, dict(state.arguments))  # noqa: SLF001 - as above
        logits: Tensor = out.logits[0]
        return logits, _State(after, end)


def count_layers(model: PreTrainedModel) -> StepCount:
    """Return a count that moves with each layer of a pass: one that reads a whole prompt may take minutes."""
    steps = StepCount()
    for holder in model.modules():
        if isinstance(holder, nn.ModuleList):
            for layer in holder:
                layer.register_forward_pre_hook(lambda *_: steps.tick())
    return steps


def _last(logits: Tensor, wanted: int) -> Tensor:
    """Return the last rows in float32; raise `EngineError` where the model has said fewer."""
    if len(logits) < wanted:
        raise _not_scored()
    return logits[len(logits) - wanted :].float()


def _not_scored() -> EngineError:
    return EngineError("this model says nothing of the tokens of a prompt but of the last: it cannot be scored")
