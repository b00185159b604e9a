"""The questions of the `Engine` interface, read off its signatures: each crosses the border by its name.

A question is a coroutine method of `Engine`. Its arguments and its result are what its annotations say, so a question
that is added there needs no line here, nor in the client, the server or `IsolatedEngine`.
"""

import inspect
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from types import GenericAlias
from typing import get_type_hints

from msgspec import Raw
from msgspec.msgpack import Decoder

from gateway.engine.base import Engine
from gateway.engine.border import MalformedFrame, decode

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class EngineMethod:
    """One question: its name, and how its arguments and its result are read from the other process."""

    def __init__(self, name: str, function: Callable[..., Awaitable[object]]) -> None:
        self.name = name
        self._signature = inspect.signature(function)
        _, *parameters = self._signature.parameters.values()
        if any(parameter.kind not in _POSITIONAL for parameter in parameters):
            raise TypeError(f"Engine.{name}: arguments cross the border by their places")
        hints = get_type_hints(function, include_extras=True)
        kinds = tuple(hints[parameter.name] for parameter in parameters)
        self._arguments: Decoder[tuple[object, ...]] = Decoder(GenericAlias(tuple, kinds))
        self._result: Decoder[object] = Decoder(hints["return"])

    def bind(self, *arguments: object, **named: object) -> tuple[object, ...]:
        """Put the arguments of a call, its engine first, in their places; return them without the engine."""
        bound = self._signature.bind(*arguments, **named)
        bound.apply_defaults()
        return bound.args[1:]

    async def ask(self, engine: Engine, arguments: tuple[object, ...]) -> object:
        """Ask `engine` this question."""
        question: Callable[..., Awaitable[object]] = getattr(engine, self.name)
        return await question(*arguments)

    def read_arguments(self, raw: Raw) -> tuple[object, ...]:
        """Read the arguments; raise `MalformedFrame`."""
        return decode(raw, self._arguments)

    def read_result(self, raw: Raw) -> object:
        """Read the result; raise `MalformedFrame`."""
        return decode(raw, self._result)


METHODS = {
    name: EngineMethod(name, function)
    for name, function in inspect.getmembers(Engine, inspect.iscoroutinefunction)
    if not name.startswith("_")
}


def find_method(name: str) -> EngineMethod:
    """Find a question; raise `MalformedFrame` where the interface has none of this name."""
    if name not in METHODS:
        raise MalformedFrame(f"an engine has no question {name!r}")
    return METHODS[name]


class ForwardingEngine(Engine):
    """An engine whose questions are all answered by `ask`."""

    @abstractmethod
    async def ask(self, method: EngineMethod, arguments: tuple[object, ...]) -> object:
        """Answer any question."""


def forward(method: EngineMethod) -> Callable[..., Awaitable[object]]:
    """Make the method of a `ForwardingEngine` that asks `method`."""

    async def question(engine: ForwardingEngine, *arguments: object, **named: object) -> object:
        return await engine.ask(method, method.bind(engine, *arguments, **named))

    return question


for _method in METHODS.values():
    setattr(ForwardingEngine, _method.name, forward(_method))
