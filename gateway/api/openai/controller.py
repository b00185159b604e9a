"""`POST /v1/chat/completions` and `POST /v1/completions`, also without their `/v1`."""

from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import TypeVar

import msgspec
from litestar import Controller, Request, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp, Method
from litestar.types.internal_types import PathParameterDefinition

from gateway.admission import QueuePosition
from gateway.api.http.access import caller_of
from gateway.api.http.body import name_ignored, read_body
from gateway.api.http.headers import read_head, read_timeouts, wants_updates
from gateway.api.http.sse import EventStream, Pace, first_event, frames, while_connected
from gateway.api.openai.operation import ChatOperation, CompletionOperation
from gateway.api.openai.render import Rendering
from gateway.api.openai.render_chat import ChatRendering
from gateway.api.openai.render_text import TextRendering
from gateway.api.openai.run import Run, to_frame
from gateway.api.openai.schema import ChatCompletionBody, CompletionBody, chat_decoder, completion_decoder
from gateway.api.openai.translate import reword, to_asked
from gateway.api.reference.errors import BODY, ENGINE, GENERATION, KEY, error_responses
from gateway.cache import cache_policy
from gateway.engine import EngineError, GenerateEvent, ModelCard
from gateway.flow.deadline import Timeouts
from gateway.inflight import InFlightRequest
from gateway.service import Inference
from gateway.telemetry import request_id

B = TypeVar("B", ChatCompletionBody, CompletionBody)
HttpRequest = Request[None, None, State]


def name_operation(handler: HTTPRouteHandler, method: Method, path: list[str | PathParameterDefinition]) -> str:
    """Tell the path of an operation from the one without `/v1`, and the one of a full id from that of a name."""
    del method
    first, *rest = handler.handler_name.split("_")
    owned = any(isinstance(part, PathParameterDefinition) and part.name == "owner" for part in path)
    marks = ("Owned" if owned else "", "" if path[0] == "v1" else "Unversioned")
    return "".join((first, *(word.title() for word in rest), *marks))


class OpenAIController(Controller):
    """OpenAI's dialect."""

    path = "/"

    @post(
        ["/v1/chat/completions", "/chat/completions"],
        status_code=HTTP_200_OK,
        operation_id=name_operation,
        operation_class=ChatOperation,
        tags=["openai"],
        summary="Answer a conversation",
        responses=error_responses(*KEY, *BODY, *ENGINE, *GENERATION),
    )
    async def chat_completions(self, request: HttpRequest, inference: NamedDependency[Inference]) -> ASGIApp:
        """Answer a conversation as OpenAI's API does; whole, or as Server-Sent Events."""
        return await _answer(request, inference, chat_decoder, ChatRendering)

    @post(
        ["/v1/completions", "/completions"],
        status_code=HTTP_200_OK,
        operation_id=name_operation,
        operation_class=CompletionOperation,
        tags=["openai"],
        summary="Go on with texts",
        responses=error_responses(*KEY, *BODY, *ENGINE, *GENERATION),
    )
    async def completions(self, request: HttpRequest, inference: NamedDependency[Inference]) -> ASGIApp:
        """Go on with one text or many as OpenAI's API does; whole, or as Server-Sent Events."""
        return await _answer(request, inference, completion_decoder, TextRendering)


async def _answer(
    request: HttpRequest,
    inference: Inference,
    decoder: msgspec.json.Decoder[B],
    render: Callable[[B, ModelCard, str], Rendering],
) -> ASGIApp:
    caller = caller_of(request.scope)
    body, ignored = (await read_body(request)).decode(decoder)
    headers = name_ignored(ignored, inference.config.server)
    card = inference.card(body.model, caller)
    try:
        asked = to_asked(body, card, request_id.get(), caller.priority)
        head = read_head(request.scope)
        run = Run(
            inference, caller, asked, read_timeouts(head, Timeouts()), cache_policy(head.get("cache-control", ""))
        )
        rendering = render(body, card, request_id.get())
        if body.stream:
            begun, events = await _begin(
                request, inference.generate_told if wants_updates(head) else inference.generate, run, rendering
            )
            pace = Pace(inference.config.server.ping_seconds, inference.config.server.stall_seconds)
            return EventStream(begun, events, pace=pace, headers=headers | run.headers)
        reply = await while_connected(request.receive, run.whole(card, rendering))
    except EngineError as error:
        reword(error, body)
        raise
    return ASGIResponse(body=reply, media_type="application/json", headers=headers | run.headers)


async def _begin(
    request: HttpRequest,
    generate: Callable[[InFlightRequest], AsyncGenerator[QueuePosition | GenerateEvent, None]],
    run: Run,
    rendering: Rendering,
) -> tuple[AsyncGenerator[bytes, None], AsyncGenerator[object, None]]:
    """Read the first event of a stream, and return its frames and its events; one answer has the engine's own."""
    visit = run.admit()
    if visit is None:
        told = run.told()
        return frames(await first_event(request.receive, told), told, partial(to_frame, rendering)), told
    events = generate(visit)
    return frames(await first_event(request.receive, events), events, rendering.to_frame), events
