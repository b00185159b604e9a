"""From tokens to logits: all sequences of a step in one pass, or one a pass where a model knows no other way."""

import inspect
from collections.abc import Sequence as Some
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from gateway_hf.attention import Attention
from gateway_hf.kernels import Kernels
from gateway_hf.rows import Rows
from gateway_hf.scheduler import Chunk
from gateway_hf.sequence import Sequence


class Forward(Protocol):
    """What a runner asks of a model."""

    def logits(self, chunks: Some[Chunk], /) -> tuple[Tensor, list[int]]:
        """Compute chunks; return float32 logits `[wanted rows, vocabulary]` and how many rows are each chunk's.

        A chunk that leaves tokens pending wants none; one that leaves none wants its last row, and one for each of
        its draft's tokens. Counts in the sequences are the caller's to change.
        """
        ...

    def forget(self, sequence: Sequence, /) -> None:
        """Free what is held for a sequence; harmless when there is nothing."""
        ...


class BatchedForward:
    """One pass for all chunks; keys and values lie in the blocks that each sequence was given."""

    def __init__(self, model: PreTrainedModel, attention: Attention, kernels: Kernels | None) -> None:
        self._model = model
        self._attention = attention
        self._kernels = kernels
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._device = model.device

    def logits(self, chunks: Some[Chunk]) -> tuple[Tensor, list[int]]:
        """Compute all chunks in one pass."""
        rows = Rows(chunks)
        self._attention.rows = rows
        if self._kernels is not None:
            self._kernels.begin(rows.batch)
        wanted = rows.tensor(rows.wanted, self._device)[0]
        try:
            out: Any = self._model(
                input_ids=rows.tensor(rows.ids, self._device),
                position_ids=rows.tensor(rows.positions, self._device),
                use_cache=False,
                **({"logits_to_keep": wanted} if self._keeps else {}),
            )
        finally:
            self._attention.rows = None
        logits: Tensor = out.logits[0] if self._keeps else out.logits[0, wanted]
        return logits.float(), rows.counts

    def forget(self, sequence: Sequence) -> None:
        """Nothing is held: blocks are the scheduler's."""


class SerialForward:
    """One pass a chunk, with transformers' own cache and attention: for models that cannot be batched."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._caches: dict[Sequence, tuple[DynamicCache, int]] = {}
        takes = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    def logits(self, chunks: Some[Chunk]) -> tuple[Tensor, list[int]]:
        """Compute chunk after chunk."""
        last = [self._last(chunk) for chunk in chunks]
        counts = [1 if chunk.tokens == chunk.sequence.pending else 0 for chunk in chunks]
        wanted = [row for row, count in zip(last, counts, strict=True) if count]
        return torch.cat(wanted) if wanted else torch.empty(0, 0), counts

    def forget(self, sequence: Sequence) -> None:
        """Drop the cache of a sequence."""
        self._caches.pop(sequence, None)

    def _last(self, chunk: Chunk) -> Tensor:
        """Return the logits `[1, vocabulary]` after the last token of a chunk."""
        sequence, tokens = chunk
        cache, held = self._caches.pop(sequence, (None, 0))
        if cache is None or held != sequence.computed:
            # It is new, or was preempted, or was read in a pass that failed for others: it begins anew.
            cache, held = DynamicCache(config=self._model.config), 0
        end = sequence.computed + tokens
        ids = torch.tensor([sequence.tokens[held:end]], device=self._model.device)
        out: Any = self._model(input_ids=ids, past_key_values=cache, use_cache=True, **self._last_only)
        self._caches[sequence] = cache, end
        logits: Tensor = out.logits[:, -1].float()
        return logits
