"""Low-rank adapters (LoRA, Hu et al. 2021) of a model's linear layers: several in one pass, each on its own rows.

By torch alone they are hooks on the layers; layers of the kernels have them packed, and take the same rows. Where no
sequence of a pass has an adapter, the pass is that of a model without any.
"""

import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Some
from contextlib import contextmanager
from ctypes import Array
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gateway_hf.compute.forward import Forward
from gateway_hf.compute.kernels import Format, Kernels, LowRankStruct
from gateway_hf.compute.packed import Packed, PackedLinear
from gateway_hf.scheduling.scheduler import Chunk
from gateway_hf.scheduling.sequence import Sequence


class LowRank(NamedTuple):
    """A change of one linear layer, float32: `down` `[rank, depth]`, `up` `[columns, rank]` with the scale in it."""

    down: Tensor
    up: Tensor


# What adapters change, by their names, and then by the names of linear layers.
Changes = Mapping[str, Mapping[str, LowRank]]
Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]


class AdapterSpan(NamedTuple):
    """Rows `[start, stop)` of a pass are of one adapter; all of them where `stop` is `None`."""

    adapter: int
    start: int = 0
    stop: int | None = None


class AdaptedColumns(NamedTuple):
    """A linear layer whose output lies from `column` on, in another `order` if there is one; none is a gap.

    The rows that it gets are divided by `factors` `[depth]`, if there are any.
    """

    layer: nn.Module | None
    column: int = 0
    order: Tensor | None = None
    factors: Tensor | None = None


class PackedChanges(NamedTuple):
    """The changes of some linear layers, packed: a row of `table` is an adapter's; `kept` is what it points to."""

    table: Array[LowRankStruct]
    kept: list[Packed]


class Adapters:
    """The adapters of one model; their numbers are their places among `names`, from 1 on: 0 is the model as it is.

    `spans` are those of the pass that runs.
    """

    def __init__(self, changes: Changes, kernels: Kernels | None = None) -> None:
        self.names = tuple(changes)
        self.spans: Some[AdapterSpan] = ()
        self._changes = changes
        self._kernels = kernels
        self._rows: int | None = None
        # The originals of layers that are packed must not live on.
        self._layers: weakref.WeakKeyDictionary[nn.Module, dict[int, LowRank]] = weakref.WeakKeyDictionary()
        self._unheard: set[str] = set()

    def attach(self, model: nn.Module) -> None:
        """Let the linear layers of a model, which have the adapters' names and sizes, be changed where rows ask."""
        device = next(model.parameters()).device
        found: dict[str, dict[int, LowRank]] = {}
        for number, changes in enumerate(self._changes.values(), 1):
            for name, low in changes.items():
                found.setdefault(name, {})[number] = LowRank(*(each.to(device) for each in low))
        for name, lows in found.items():
            layer = model.get_submodule(name)
            self._layers[layer] = lows
            layer.register_forward_hook(self._hook(name, lows))
        self._unheard = set(found)

    def unheard(self, adapter: str) -> str | None:
        """Name a layer of an adapter that the model's code has not called with any adapter yet."""
        return min(self._unheard & self._changes[adapter].keys(), default=None)

    @contextmanager
    def over(self, spans: Some[AdapterSpan], rows: int | None = None) -> Iterator[None]:
        """Let rows of the passes inside be those of adapters; each pass has so many `rows`, or any number."""
        self._take(spans, rows)
        try:
            yield
        finally:
            self._take((), None)

    def pack(self, layers: Some[AdaptedColumns], kernels: Kernels) -> PackedChanges | None:
        """Pack the changes of layers whose outputs lie side by side; `None` without any."""
        if not any(each.layer in self._layers for each in layers if each.layer is not None):
            return None
        packed = PackedChanges((LowRankStruct * (len(self.names) * len(layers)))(), [])
        for at, (layer, column, order, factors) in enumerate(layers):
            for number, low in ({} if layer is None else self._layers.get(layer, {})).items():
                wide = low.down if factors is None else low.down * factors
                ordered = low.up if order is None else low.up[order]
                down, up = (Packed(each, None, Format.FLOAT32, kernels) for each in (wide, ordered))
                packed.kept.extend((down, up))
                packed.table[(number - 1) * len(layers) + at] = LowRankStruct(down.struct, up.struct, column)
        return packed

    def move(self, layer: nn.Module, packed: PackedLinear, kernels: Kernels) -> None:
        """Have a packed layer changed as the one that it stands for."""
        if (changes := self.pack([AdaptedColumns(layer)], kernels)) is None:
            return

        def change(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
            if not self.spans:
                return out
            x, y = (each.reshape(-1, each.shape[-1]).float().contiguous() for each in (given[0], out))
            self._check_rows(len(x))
            kernels.change(changes.table, x, y)
            return y.view(out.shape).to(out.dtype)

        packed.register_forward_hook(change)

    def _take(self, spans: Some[AdapterSpan], rows: int | None) -> None:
        self.spans, self._rows = spans, rows
        if self._kernels is not None:
            self._kernels.adapt([(adapter - 1, start, stop) for adapter, start, stop in spans if stop is not None])

    def _hook(self, name: str, lows: dict[int, LowRank]) -> Hook:
        def change(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
            if not self.spans:
                return out
            self._unheard.discard(name)
            x = given[0]
            self._check_rows(x.shape[-2])
            for number, start, stop in self.spans:
                if (low := lows.get(number)) is not None:
                    changed = x[..., start:stop, :].float() @ low.down.T @ low.up.T
                    out[..., start:stop, :] = (out[..., start:stop, :].float() + changed).to(out.dtype)
            return out

        return change

    def _check_rows(self, count: int) -> None:
        """Raise `RuntimeError` where a layer gets other rows than the pass has: it cannot be told whose they are."""
        if self._rows is not None and count != self._rows:
            raise RuntimeError(f"an adapted layer gets {count} of {self._rows} rows")


class AdaptedBatches:
    """Passes of a batch whose sequences may each have an adapter: those of one lie side by side."""

    def __init__(self, forward: Forward, adapters: Adapters) -> None:
        self.steps = forward.steps
        self._forward = forward
        self._adapters = adapters

    def logits(self, chunks: Some[Chunk]) -> tuple[Tensor, list[int]]:
        """Compute all chunks in one pass."""
        numbers = [chunk.sequence.adapter for chunk in chunks]
        if not any(numbers):
            return self._forward.logits(chunks)
        order = sorted(range(len(chunks)), key=numbers.__getitem__)
        spans, rows = list[AdapterSpan](), 0
        for number, group in itertools.groupby(order, key=numbers.__getitem__):
            start, rows = rows, rows + sum(chunks[at].tokens for at in group)
            if number:
                spans.append(AdapterSpan(number, start, rows))
        with self._adapters.over(spans, rows):
            logits, counts = self._forward.logits([chunks[at] for at in order])
        return _put_back(logits, counts, order)

    def forget(self, sequence: Sequence) -> None:
        """Free what is held for a sequence."""
        self._forward.forget(sequence)


class AdaptedSequences:
    """Passes of one sequence each, with its adapter."""

    def __init__(self, forward: Forward, adapters: Adapters) -> None:
        self.steps = forward.steps
        self._forward = forward
        self._adapters = adapters

    def logits(self, chunks: Some[Chunk]) -> tuple[Tensor, list[int]]:
        """Compute chunk after chunk, those of one adapter that follow each other at once."""
        rows, counts = list[Tensor](), list[int]()
        for number, group in itertools.groupby(chunks, key=lambda chunk: chunk.sequence.adapter):
            with self._adapters.over([AdapterSpan(number)] if number else []):
                logits, own = self._forward.logits(list(group))
            rows += [logits] if len(logits) else []
            counts += own
        return torch.cat(rows) if rows else torch.empty(0, 0), counts

    def forget(self, sequence: Sequence) -> None:
        """Drop the cache of a sequence."""
        self._forward.forget(sequence)


def _put_back(logits: Tensor, counts: list[int], order: list[int]) -> tuple[Tensor, list[int]]:
    """Bring rows that were computed in another order into that of their chunks."""
    ends = list(itertools.accumulate(counts))
    places = sorted(range(len(order)), key=order.__getitem__)
    if places == list(range(len(order))):
        return logits, counts
    rows = [row for place in places for row in range(ends[place] - counts[place], ends[place])]
    return logits[rows], [counts[place] for place in places]
