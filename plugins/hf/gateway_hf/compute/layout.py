"""What one forward pass computes: some tokens of some sequences, one behind the other in a single row of tokens."""

from collections.abc import Iterator
from collections.abc import Sequence as Some
from typing import NamedTuple

import torch
from torch import Tensor

from gateway_hf.compute.kernels import BLOCK, BatchStruct
from gateway_hf.scheduling.scheduler import Chunk


class Group(NamedTuple):
    """Sequences that attend together: their rows, the slots of the cache they see, and which row sees which slot."""

    span: slice
    held: Tensor
    mask: Tensor


class Slots:
    """The places in the cache, one a token, where attention by torch alone finds what it needs."""

    def __init__(self, rows: "BatchLayout", device: torch.device) -> None:
        tables = rows.tables.to(device, torch.long)
        # [sequences, width * 16]: the slot of every token of every sequence, in order
        self._all = (tables[:, :, None] * BLOCK + torch.arange(BLOCK, device=device)).flatten(1)
        self._positions = torch.tensor(rows.positions, device=device)
        sizes = (rows.starts[1:] - rows.starts[:-1]).tolist()
        owner = torch.tensor([s for s, size in enumerate(sizes) for _ in range(size)], device=device)
        self.new = self._all[owner, self._positions]
        self._spans = _spans(sizes, rows.past.tolist())
        self._groups: dict[int, list[Group]] = {}

    def groups(self, window: int) -> Iterator[Group]:
        """Yield the groups; `window` 0 is none."""
        if window not in self._groups:
            self._groups[window] = [self._group(span, window) for span in self._spans]
        yield from self._groups[window]

    def _group(self, span: "Span", window: int) -> Group:
        held = self._all[span.first : span.last, : span.tokens]
        at = self._positions[span.rows].view(held.shape[0], 1, -1, 1)
        token = torch.arange(span.tokens, device=held.device)
        # What lies beyond a sequence's end is masked, but zero times what a former owner left there may be no number.
        held = held.where(token <= at[:, 0, -1], held[:, :1])
        mask = token <= at
        return Group(span.rows, held, mask & (token > at - window) if window else mask)


class Span(NamedTuple):
    """Sequences `[first, last)` with as many rows each, which see at most `tokens` tokens."""

    first: int
    last: int
    rows: slice
    tokens: int


def _spans(sizes: list[int], past: list[int]) -> list[Span]:
    """Put neighbours with one row each together; every other sequence stands alone."""
    spans: list[Span] = []
    row = 0
    for s, (size, before) in enumerate(zip(sizes, past, strict=True)):
        seen = before + size
        last = spans[-1] if spans else None
        if last is not None and size == 1 and last.rows.stop - last.rows.start == last.last - last.first:
            spans[-1] = Span(last.first, s + 1, slice(last.rows.start, row + 1), max(last.tokens, seen))
        else:
            spans.append(Span(s, s + 1, slice(row, row + size), seen))
        row += size
    return spans


class BatchLayout:
    """The chunks of a step, laid end to end.

    rows      [starts[0] .. starts[1])[starts[1] .. starts[2]) ...    one run for each chunk
    `past[s]` tokens of sequence s are in the cache already, in the blocks `tables[s]`. `wanted` are the rows whose
    logits are asked for, the last `wanted` ones of each chunk.
    """

    def __init__(self, chunks: Some[Chunk]) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.wanted: list[int] = []
        self.counts: list[int] = []
        starts, past, blocks = [0], list[int](), list[list[int]]()
        for chunk in chunks:
            sequence, tokens = chunk
            computed = sequence.computed
            own = sequence.tokens[computed : computed + tokens]
            self.ids += own
            self.ids += sequence.draft[: tokens - len(own)]
            self.positions += range(computed, computed + tokens)
            starts.append(starts[-1] + tokens)
            count = chunk.wanted
            self.wanted += range(starts[-1] - count, starts[-1])
            self.counts.append(count)
            past.append(computed)
            blocks.append(sequence.blocks[: -(-(computed + tokens) // BLOCK)])
        self._slots: Slots | None = None
        width = max(map(len, blocks))
        self.starts = torch.tensor(starts, dtype=torch.int32)
        self.past = torch.tensor(past, dtype=torch.int32)
        self.tables = torch.tensor([table + [0] * (width - len(table)) for table in blocks], dtype=torch.int32)
        self.batch = BatchStruct(
            sequences=len(past),
            rows=starts[-1],
            starts=self.starts.data_ptr(),
            past=self.past.data_ptr(),
            tables=self.tables.data_ptr(),
            width=width,
        )

    def slots(self, device: torch.device) -> Slots:
        """Return the slots, made once for all layers."""
        if self._slots is None:
            self._slots = Slots(self, device)
        return self._slots

    def tensor(self, numbers: list[int], device: torch.device) -> Tensor:
        """Return numbers as they are given to a model: int64 `[1, len(numbers)]`."""
        return torch.tensor([numbers], dtype=torch.long, device=device)
