"""What differs between the APIs that the gateway speaks. Everything else they share: `gateway.api.exchange.answer`.

A dialect is one folder, with its bodies (`schema`), what they mean to an engine (`translate`) and what they look like
(`render`), and one word in `gateway.api.routes`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Generic, Protocol, TypeVar

import msgspec
from litestar.openapi.spec import Operation
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from gateway.api.exchange.asked import Asking, Prompts
from gateway.api.exchange.keeper import AnswerKeeper
from gateway.api.http.problems import ErrorWords, Problem
from gateway.api.http.sse import PLAIN, Framing
from gateway.engine import Answer, EngineError, Finished, GenerateEvent, ModelCard, Usage
from gateway.flow.deadline import Timeouts
from gateway.store import Shelf


class GenerationBody(Protocol):
    """What the body of every generation says in one way or another."""

    @property
    def model(self) -> str | None:
        """The name of the model; `None` for the default one."""
        ...

    @property
    def stream(self) -> bool | None:
        """Whether the answer is streamed."""
        ...


B = TypeVar("B", bound=GenerationBody)


class Rendering(ABC):
    """Renders the answers to one request, each by its index; one answer has the index 0.

    Where they are held to a shape (`is_structured`), a stream says of each at its end whether it has all of it. With
    `holds_answers` a streamed answer is told or stored as a whole, too, and may be no larger than one that is not
    streamed.
    """

    is_structured = False
    holds_answers = False

    @abstractmethod
    def to_piece(self, index: int, event: GenerateEvent) -> bytes:
        """Encode one event of an answer as SSE frames; an event that the client need not see is empty."""

    @abstractmethod
    def to_reply(self, answers: Mapping[int, Answer], usage: Usage) -> bytes:
        """Encode whole answers."""

    def to_last(self, usage: Usage) -> bytes:
        """Encode the frame behind all answers, with the tokens of all."""
        del usage
        return b""

    def note(self, event: GenerateEvent) -> None:  # noqa: B027 - most renderings need to note nothing
        """Take note of an event of a whole answer, before it is folded."""

    def to_failure(self, problem: Problem) -> bytes | None:
        """Encode the frame that ends a stream which failed; `None` where the framing's words for errors do."""
        del problem
        return None

    def to_frame(self, event: GenerateEvent) -> bytes:
        """Encode one event of the only answer."""
        piece = self.to_piece(0, event)
        return piece + self.to_last(event.usage) if type(event) is Finished else piece


def _no_keeper(body: object, request_id: str, shelf: Shelf) -> AnswerKeeper[Any] | None:
    del body, request_id, shelf
    return None


def _no_timeouts(body: object) -> Timeouts:
    del body
    return Timeouts()


class Endpoint(Struct, Generic[B], frozen=True, kw_only=True):
    """One route that generates: pure functions from its body to requests, and from events to its answer.

    `to_prompts` raises `InvalidRequest` where the body contradicts itself; `reword` says in the dialect's words, not
    in the engine's, which field an error is about. `to_keeper` is for bodies that ask to store the answer. The
    documentation has the operation under its `name`; the `aliases` of the path do the same, and are left out there.
    """

    path: str
    name: str
    summary: str
    description: str
    operation: type[Operation]
    decoder: msgspec.json.Decoder[B]
    to_prompts: Callable[[B, Asking], Prompts]
    to_rendering: Callable[[B, ModelCard, str], Rendering]
    reword: Callable[[EngineError, B], None]
    to_timeouts: Callable[[B], Timeouts] = _no_timeouts
    to_keeper: Callable[[B, str, Shelf], AnswerKeeper[B] | None] = _no_keeper
    aliases: tuple[str, ...] = ()


class Parameters(Struct, frozen=True):
    """What becomes of the parameters of a route; a part of one has its path."""

    honoured: Annotated[tuple[str, ...], Meta(description="Done as documented.", examples=[["temperature"]])]
    taken: Annotated[
        tuple[str, ...], Meta(description="Taken, and without effect, as their description says.", examples=[["user"]])
    ]
    refused: Annotated[
        tuple[str, ...],
        Meta(description="Refused with `unsupported_parameter`, unless they ask for nothing.", examples=[["audio"]]),
    ]


class Dialect(Struct, frozen=True):
    """One API, as far as the rest of the service knows it.

    `name` is its tag in the documentation, and `about` what that says of it. `endpoints` are its routes that generate,
    `routes` all others; `schemas` are the structs that they read and write, and `parameters` says by route what becomes
    of each parameter for a model. Its streams have the `framing`; on paths that begin with one of `paths` errors are
    told in the framing's words, too.
    """

    name: str
    about: str
    endpoints: tuple[Endpoint[Any], ...]
    schemas: tuple[type[Struct], ...]
    routes: tuple[ControllerRouterHandler, ...] = ()
    parameters: Mapping[str, Callable[[ModelCard], Parameters]] = {}
    paths: tuple[str, ...] = ()
    framing: Framing = PLAIN

    @property
    def errors(self) -> ErrorWords:
        """Its words for errors."""
        return self.framing.errors


class ParameterTables:
    """The tables of all dialects: what becomes of each parameter for a model."""

    def __init__(self, dialects: Iterable[Dialect]) -> None:
        self._tables = {route: sort for dialect in dialects for route, sort in dialect.parameters.items()}

    def of(self, card: ModelCard) -> dict[str, Parameters]:
        """Sort every parameter, by route."""
        return {route: sort(card) for route, sort in self._tables.items()}
