"""Passes without what transformers does between the parts of a model, where one that was watched shows them all.

That is a tenth to a quarter of a step with one row: a layer is called, its positions are laid out, answers are wrapped.
"""

import itertools
from collections.abc import Iterator
from collections.abc import Sequence as Some
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gateway_hf.compute.attention import Attention
from gateway_hf.compute.forward import BatchedForward, Forward
from gateway_hf.compute.fused import FusedLayer
from gateway_hf.compute.kernels import Kernels, Turning
from gateway_hf.compute.layout import BatchLayout
from gateway_hf.compute.pieces import Rotation
from gateway_hf.scheduling.scheduler import Chunk
from gateway_hf.scheduling.sequence import Sequence

_CPU = torch.device("cpu")
# Few enough for one block.
_TOKENS = 8


class WatchedCall(NamedTuple):
    """A call of a part: what it was given, in order and by name, and what it made."""

    part: nn.Module
    given: tuple[Any, ...]
    named: dict[str, Any]
    made: Any

    def again(self, positions: Tensor, states: Tensor) -> Any:  # noqa: ANN401 - whatever the part makes
        """Call the part for other rows: `positions` `[1, rows]` and their `states`, and all else as it was."""

        def renewed(each: object) -> object:
            if not isinstance(each, Tensor):
                return each
            return states if each.is_floating_point() else positions

        return self.part(*map(renewed, self.given), **{name: renewed(each) for name, each in self.named.items()})


class Parts(NamedTuple):
    """The parts of a model in the order of their calls.

    `turns` are the calls that make cosines and sines, and `turned` says for each layer which of them it takes.
    """

    table: nn.Module
    turns: list[WatchedCall]
    layers: list[FusedLayer]
    turned: list[int | None]
    norm: nn.Module
    head: nn.Module


class ShortForward:
    """Passes of a batch by the `parts` of a model alone; its layers are one call of the kernels."""

    def __init__(self, model: PreTrainedModel, parts: Parts, kernels: Kernels, attention: Attention) -> None:
        self.steps = attention.steps
        self._model = model
        self._parts = parts
        self._kernels = kernels
        self._attention = attention

    def logits(self, chunks: Some[Chunk]) -> tuple[Tensor, list[int]]:
        """Compute all chunks in one pass."""
        rows, parts = BatchLayout(chunks), self._parts
        self._kernels.begin(rows.batch)
        states: Tensor = parts.table(rows.tensor(rows.ids, _CPU)).float().contiguous()
        layers = self._layers(rows.tensor(rows.positions, _CPU), states)
        self._kernels.run_layers(layers, rows.batch, self._attention.cache.form, states, self.steps.address)
        wanted = states if len(rows.wanted) == states.shape[1] else states[:, rows.wanted]
        logits: Tensor = parts.head(parts.norm(wanted))
        return logits[0].float(), rows.counts

    def forget(self, sequence: Sequence) -> None:
        """Nothing is held: blocks are the scheduler's."""

    def _layers(self, positions: Tensor, states: Tensor) -> list[tuple[int, Turning]]:
        """Return where each layer lies, and how it turns at these positions."""
        made = [each.again(positions, states) for each in self._parts.turns]
        laid: dict[tuple[int | None, Rotation], Turning] = {}
        layers: list[tuple[int, Turning]] = []
        for layer, number in zip(self._parts.layers, self._parts.turned, strict=True):
            kind = number, layer.rotation
            if kind not in laid:
                laid[kind] = layer.turned(None if number is None else made[number])
            layers.append((layer.address, laid[kind]))
        return layers


def shorten(model: PreTrainedModel, whole: BatchedForward, kernels: Kernels, attention: Attention) -> Forward:
    """Return passes in short where they say the same to the last bit, else those that are `whole`."""
    sequence = Sequence(list(range(_TOKENS)))
    sequence.blocks = [0]
    chunks = [Chunk(sequence, _TOKENS)]
    with _watched(model) as calls:
        logits, _ = whole.logits(chunks)
    if (parts := _parts(model.get_input_embeddings(), calls, logits)) is None:
        return whole
    short = ShortForward(model, parts, kernels, attention)
    for computed in (0, _TOKENS - 1):
        sequence.computed = computed
        chunks = [Chunk(sequence, _TOKENS - computed)]
        if not torch.equal(short.logits(chunks)[0], whole.logits(chunks)[0]):
            return whole
    return short


def _parts(embedding: nn.Module, calls: list[WatchedCall], logits: Tensor) -> Parts | None:
    """Return the parts by what they were given and made; none where anything else is between them."""
    places = [at for at, call in enumerate(calls) if isinstance(call.part, FusedLayer)]
    if not places or len(calls) - places[-1] != len(("layer", "norm", "head")):
        return None
    own, (norm, head) = [calls[at] for at in places], calls[-2:]
    before = (call for call in calls[: places[0]] if call.part is embedding)
    table = next((call for call in before if call.made is _states(own[0])), None)
    if table is None or _states(norm) is not _left(own[-1]) or not _says(head, logits):
        return None
    # Each layer takes what the one before has left, as it is.
    if any(_states(then) is not _left(before) for before, then in itertools.pairwise(own)):
        return None
    layers = [call.part for call in own if isinstance(call.part, FusedLayer)]
    given = [call.named.get("position_embeddings") for call in own]
    turns = [call for call in calls if any(call.made is each for each in given)]
    turned = [next((at for at, call in enumerate(turns) if call.made is each), None) for each in given]
    if any(at is None and each is not None for at, each in zip(turned, given, strict=True)):
        return None
    return Parts(table.part, turns, layers, turned, norm.part, head.part)


def _states(call: WatchedCall) -> object:
    return call.given[0] if call.given else call.named.get("hidden_states")


def _left(call: WatchedCall) -> object:
    return call.made[0] if isinstance(call.made, tuple) else call.made


def _says(head: WatchedCall, logits: Tensor) -> bool:
    """Whether the last part to be called has made the logits."""
    return isinstance(head.made, Tensor) and torch.equal(head.made[0].float(), logits)


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[WatchedCall]]:
    """Note the calls of all parts that have no parts, as layers that are fused have none."""
    calls: list[WatchedCall] = []

    def note(part: nn.Module, given: tuple[Any, ...], named: dict[str, Any], made: Any) -> None:  # noqa: ANN401 - whatever it makes
        calls.append(WatchedCall(part, given, named, made))

    with ExitStack() as hooks:
        for part in model.modules():
            if next(part.children(), None) is None:
                hooks.callback(part.register_forward_hook(note, with_kwargs=True).remove)
        yield calls
