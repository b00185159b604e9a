"""The way of every question about a prompt over HTTP, in any dialect."""

from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from litestar import post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Operation
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.api.exchange.answer import HttpRequest
from gateway.api.http.access import caller_of
from gateway.api.http.body import decode_body, name_ignored
from gateway.api.http.headers import read_head, read_timeouts
from gateway.api.http.problems import OWN_WORDS, ErrorWords
from gateway.api.http.reply import JsonReply
from gateway.api.http.sse import while_connected
from gateway.api.reference.errors import BODY, ENGINE, GENERATION, KEY, error_responses
from gateway.engine import EngineError
from gateway.flow.deadline import Timeouts
from gateway.hosting.directory import NotLoaded
from gateway.hosting.route import Target
from gateway.questions import Inquiry, Questions
from gateway.service import Inference


class QuestionBody(Protocol):
    """What the body of every question says."""

    @property
    def model(self) -> str | None:
        """The name of the model; `None` for the default one."""
        ...


Q = TypeVar("Q", bound=QuestionBody)
R = TypeVar("R")


class QuestionEndpoint(Struct, Generic[Q, R], frozen=True, kw_only=True):
    """How an engine is asked: from a body to the reply. `reword` says which field an error is about."""

    decoder: msgspec.json.Decoder[Q]
    ask: Callable[[Questions, Inquiry, Q], Coroutine[None, None, R]]
    reword: Callable[[EngineError, Q], None]


class QuestionRoute(Struct, frozen=True, kw_only=True):
    """A route that asks an engine, and how it is described. A reply is JSON already, or is encoded.

    `errors` is how it tells of them.
    """

    path: str
    aliases: tuple[str, ...] = ()
    name: str
    tag: str
    summary: str
    description: str
    operation: type[Operation]
    endpoint: QuestionEndpoint[Any, Any]
    errors: ErrorWords = OWN_WORDS


def question_routes(*asked: QuestionRoute) -> Iterator[HTTPRouteHandler]:
    """Make the handlers of routes, and of their aliases."""
    for route in asked:
        yield from _handlers(route)


def _handlers(route: QuestionRoute) -> Iterator[HTTPRouteHandler]:
    async def handle(
        request: HttpRequest, inference: NamedDependency[Inference], questions: NamedDependency[Questions]
    ) -> ASGIApp:
        reply, headers = await ask(request, inference, questions, route.endpoint)
        content = reply if isinstance(reply, bytes) else msgspec.json.encode(reply)
        return JsonReply(content, headers)

    yield post(
        route.path,
        status_code=HTTP_200_OK,
        operation_id=route.name,
        operation_class=route.operation,
        tags=[route.tag],
        summary=route.summary,
        description=route.description,
        responses=error_responses(*KEY, *BODY, *ENGINE, *GENERATION, words=route.errors),
    )(handle)
    if route.aliases:
        yield post(list(route.aliases), status_code=HTTP_200_OK, include_in_schema=False)(handle)


async def ask(
    request: HttpRequest, inference: Inference, questions: Questions, endpoint: QuestionEndpoint[Q, R]
) -> tuple[R, dict[str, str]]:
    """Return the reply to a question, and its headers; a client that leaves ends its question.

    Raises `Problem` or `EngineError`.
    """
    caller = caller_of(request.scope)
    body, unknown, weight = await decode_body(request, endpoint.decoder)
    headers = name_ignored(unknown, inference.config.server)
    timeouts = read_timeouts(read_head(request.scope), Timeouts())
    target = await _find(request, inference, body.model, timeouts)
    try:
        question = endpoint.ask(questions, Inquiry(target, caller, timeouts.total, weight), body)
        return await while_connected(request.receive, question), headers
    except EngineError as error:
        endpoint.reword(error, body)
        raise


async def inquire(
    request: HttpRequest,
    inference: Inference,
    model: str | None,
    question: Callable[[Inquiry], Coroutine[None, None, R]],
) -> R:
    """Return the answer to a question about a model, which has no body; raise `EngineError`."""
    caller = caller_of(request.scope)
    timeouts = read_timeouts(read_head(request.scope), Timeouts())
    target = await _find(request, inference, model, timeouts)
    try:
        return await while_connected(request.receive, question(Inquiry(target, caller, timeouts.total)))
    except EngineError as error:
        error.param = "model" if error.param is not None else None
        raise


async def _find(request: HttpRequest, inference: Inference, model: str | None, timeouts: Timeouts) -> Target:
    """Find a model, and wait for its first load where it has to be, unless the client leaves."""
    caller = caller_of(request.scope)
    try:
        return inference.find(model, caller)
    except NotLoaded:
        return await while_connected(request.receive, inference.find_loaded(model, caller, timeouts))
