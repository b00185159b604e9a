"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from litestar import Controller, Request, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.response.base import ASGIResponse
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp

from gateway.admission import QueuePosition
from gateway.api.anthropic.operation import CountOperation, MessagesOperation, told_refusals
from gateway.api.anthropic.render import PING, MessagesRendering, to_count, to_error_frame
from gateway.api.anthropic.schema import count_decoder, messages_decoder
from gateway.api.anthropic.translate import reword, to_prompt, to_request
from gateway.api.http.access import caller_of
from gateway.api.http.body import name_ignored, read_body
from gateway.api.http.headers import read_head, read_timeouts, wants_updates
from gateway.api.http.sse import EventStream, Framing, Pace, first_event, frames, while_connected
from gateway.api.reference.errors import BODY, ENGINE, GENERATION, KEY
from gateway.cache import cache_policy
from gateway.engine import EngineError, GenerateEvent, collect
from gateway.flow.deadline import Timeouts
from gateway.service import Inference
from gateway.telemetry import request_id

_FRAMING = Framing(ping=PING, to_error=lambda problem: to_error_frame(problem, request_id.get()))


class AnthropicController(Controller):
    """Anthropic's dialect. Of its headers `anthropic-version` and `anthropic-beta` are taken, and change nothing."""

    path = "/v1/messages"

    @post(
        "/",
        status_code=HTTP_200_OK,
        operation_id="messages",
        operation_class=MessagesOperation,
        tags=["anthropic"],
        summary="Answer a conversation",
        responses=told_refusals(*KEY, *BODY, *ENGINE, *GENERATION),
    )
    async def messages(self, request: Request[None, None, State], inference: NamedDependency[Inference]) -> ASGIApp:
        """Answer a conversation as Anthropic's API does; whole, or as Server-Sent Events."""
        caller = caller_of(request.scope)
        body, ignored = (await read_body(request)).decode(messages_decoder)
        server = inference.config.server
        headers = name_ignored(ignored, server)
        card = inference.card(body.model, caller)
        try:
            asked = to_request(body, request_id.get(), caller.priority)
            head = read_head(request.scope)
            wish = cache_policy(head.get("cache-control", ""))
            visit = inference.admit(asked, caller, read_timeouts(head, Timeouts()), wish)
            rendering = MessagesRendering(card.name, asked.id)
            if body.stream:
                events: AsyncGenerator[QueuePosition | GenerateEvent, None] = (
                    inference.generate_told(visit) if wants_updates(head) else inference.generate(visit)
                )
                begun = frames(await first_event(request.receive, events), events, rendering.to_frame, _FRAMING)
                pace = Pace(server.ping_seconds, server.stall_seconds)
                return EventStream(begun, events, pace=pace, headers=headers | visit.headers, framing=_FRAMING)
            reply = await while_connected(request.receive, _whole(inference.generate(visit), rendering))
        except EngineError as error:
            reword(error, body)
            raise
        return ASGIResponse(body=reply, media_type="application/json", headers=headers | visit.headers)

    @post(
        "/count_tokens",
        status_code=HTTP_200_OK,
        operation_id="countTokens",
        operation_class=CountOperation,
        tags=["anthropic"],
        summary="Count the tokens of a conversation",
        responses=told_refusals(*KEY, *BODY, *ENGINE, *GENERATION),
    )
    async def count_tokens(self, request: Request[None, None, State], inference: NamedDependency[Inference]) -> ASGIApp:
        """Count the tokens that a model would read of a conversation."""
        caller = caller_of(request.scope)
        body, ignored = (await read_body(request)).decode(count_decoder)
        headers = name_ignored(ignored, inference.config.server)
        inference.card(body.model, caller)
        try:
            counting = inference.count_tokens(body.model, to_prompt(body), caller)
            count = await while_connected(request.receive, counting)
        except EngineError as error:
            reword(error, body)
            raise
        return ASGIResponse(body=to_count(count), media_type="application/json", headers=headers)


async def _whole(events: AsyncGenerator[GenerateEvent, None], rendering: MessagesRendering) -> bytes:
    async with aclosing(events):
        return rendering.to_reply(await collect(events))
