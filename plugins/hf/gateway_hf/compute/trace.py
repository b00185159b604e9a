"""What the layers of a model do with some tokens: which parts each calls, with what, and what comes of it."""

from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gateway_hf.compute.attention import Attention
from gateway_hf.compute.forward import Forward
from gateway_hf.scheduling.scheduler import Chunk
from gateway_hf.scheduling.sequence import Sequence

# Read in one pass; few enough for one block.
_TOKENS = 8


class PartCall(NamedTuple):
    """A call of a part that calls no other: what it was given and what it made, as they were then."""

    part: nn.Module
    given: Tensor
    made: Tensor


class RouterCall(NamedTuple):
    """A call of a part that says for each row of `given` which experts, `places` `[rows, chosen]`, count how much."""

    part: nn.Module
    given: Tensor
    weights: Tensor
    places: Tensor


class ExpertsCall(NamedTuple):
    """A call of a part that was told by a router what rows go to which experts, `[rows, ...]` each."""

    part: nn.Module
    given: Tensor
    weights: Tensor
    places: Tensor
    made: Tensor


class AttentionCall(NamedTuple):
    """What a layer asked of attention: `[rows, heads, size]` each, and the answer `[rows, queries * size]`.

    `sinks` `[queries]` are its parameter, if it has any.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    answer: Tensor
    sinks: Tensor | None


class LayerTrace:
    """What one layer did: its states `[rows, hidden]` before and after, the calls of its parts in order.

    `turns` are the cosines and sines `[rows, rotary]` that it was given. `companions` is how many values it returns
    beside the states, and none where it returns them alone. Routers and experts are noted apart from other parts.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.calls: list[PartCall] = []
        self.routers: list[RouterCall] = []
        self.experts: list[ExpertsCall] = []
        self.asked: AttentionCall | None = None
        self.turns: tuple[Tensor, Tensor] | None = None
        self.companions: int | None = None
        self.before: Tensor | None = None
        self.after: Tensor | None = None

    def listen(self, hooks: ExitStack) -> None:
        """Note what happens until the stack is left."""
        for part in self.layer.modules():
            whole = next(part.parameters(recurse=False), None) is None and next(part.children(), None) is not None
            hooks.enter_context(_Removed(part.register_forward_hook(self._note_router if whole else self._note)))
        hooks.enter_context(_Removed(self.layer.register_forward_pre_hook(self._begin, with_kwargs=True)))
        hooks.enter_context(_Removed(self.layer.register_forward_hook(self._end)))

    def _note(self, part: nn.Module, given: tuple[Any, ...], made: Any) -> None:  # noqa: ANN401 - whatever it makes
        if len(given) == 1 and isinstance(given[0], Tensor) and isinstance(made, Tensor):
            self.calls.append(PartCall(part, given[0].clone(), made.clone()))
        elif isinstance(made, Tensor) and _are_choices(given[:0:-1]):
            states, places, weights = (each.clone() for each in given)
            self.experts.append(ExpertsCall(part, states, weights, places, made.clone()))
        else:
            self._note_router(part, given, made)

    def _note_router(self, part: nn.Module, given: tuple[Any, ...], made: Any) -> None:  # noqa: ANN401 - as above
        if len(given) == 1 and isinstance(given[0], Tensor) and isinstance(made, tuple) and _are_choices(made[-2:]):
            own = {id(each) for each in part.modules()}
            self.calls = [call for call in self.calls if id(call.part) not in own]
            weights, places = (each.clone() for each in made[-2:])
            self.routers.append(RouterCall(part, given[0].clone(), weights, places))

    def _begin(self, _: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        states = given[0] if given else named.get("hidden_states")
        self.before = states[0].clone() if isinstance(states, Tensor) else None
        if isinstance(turns := named.get("position_embeddings"), tuple):
            cos, sin = (each[0].clone() for each in turns)
            self.turns = cos, sin

    def _end(self, _: nn.Module, __: tuple[Any, ...], made: Any) -> None:  # noqa: ANN401 - as above
        self.companions = len(made) - 1 if isinstance(made, tuple) else None
        states = made[0] if isinstance(made, tuple) else made
        self.after = states[0].clone() if isinstance(states, Tensor) else None


def _are_choices(found: tuple[Any, ...]) -> bool:
    """Say whether these are weights and as many places."""
    if len(found) != len(("weights", "places")) or not all(isinstance(each, Tensor) for each in found):
        return False
    weights, places = found
    return bool(weights.is_floating_point()) and places.dtype is torch.long and bool(weights.shape == places.shape)


class _Removed:
    """Removes a hook at the end."""

    def __init__(self, handle: Any) -> None:  # noqa: ANN401 - torch's type of it is private
        self._handle = handle

    def __enter__(self) -> None:
        """Do nothing yet."""

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


def trace_layers(forward: Forward, layers: nn.ModuleList, attention: Attention, vocabulary: int) -> list[LayerTrace]:
    """Read some tokens, and return what each layer did; the layer of attention's index `i` is `layers[i]`."""
    traces = [LayerTrace(layer) for layer in layers]

    def listen(index: int, query: Tensor, key: Tensor, value: Tensor, out: Tensor) -> None:
        if index < len(traces):
            q, k, v = (each[0].transpose(0, 1).clone() for each in (query, key, value))
            traces[index].asked = AttentionCall(q, k, v, out[0].flatten(1).clone(), attention.sinks.get(index))

    sequence = Sequence([vocabulary * (at + 1) // (_TOKENS + 2) for at in range(_TOKENS)])
    sequence.blocks = [0]
    with ExitStack() as hooks:
        for trace in traces:
            trace.listen(hooks)
        attention.listener = listen
        hooks.callback(setattr, attention, "listener", None)
        forward.logits([Chunk(sequence, _TOKENS)])
    return traces
