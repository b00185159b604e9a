"""From tokens to logits: all sequences of a step in one pass."""

import inspect
from collections.abc import Sequence as Some
from typing import Any, Protocol

from torch import Tensor
from transformers import PreTrainedModel

from gateway_hf.compute.attention import Attention
from gateway_hf.compute.kernels import Kernels
from gateway_hf.compute.layout import BatchLayout
from gateway_hf.scheduling.scheduler import Chunk
from gateway_hf.scheduling.sequence import Sequence
from gateway_hf.steps import StepCount


class Forward(Protocol):
    """What a runner asks of a model; `steps` moves several times a pass, which may take long."""

    steps: StepCount

    def logits(self, chunks: Some[Chunk], /) -> tuple[Tensor, list[int]]:
        """Compute chunks; return float32 logits `[wanted rows, vocabulary]` and how many rows are each chunk's.

        The rows of a chunk are its last `wanted` ones. Counts in the sequences are the caller's to change.
        """
        ...

    def forget(self, sequence: Sequence, /) -> None:
        """Free what is held for a sequence; harmless when there is nothing."""
        ...


class BatchedForward:
    """One pass for all chunks; keys and values lie in the blocks that each sequence was given."""

    def __init__(self, model: PreTrainedModel, attention: Attention, kernels: Kernels | None) -> None:
        self.steps = attention.steps
        self._model = model
        self._attention = attention
        self._kernels = kernels
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._device = model.device

    def logits(self, chunks: Some[Chunk]) -> tuple[Tensor, list[int]]:
        """Compute all chunks in one pass."""
        rows = BatchLayout(chunks)
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
