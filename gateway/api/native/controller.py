"""`POST /v1/generate`, and to load and unload models."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

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
from gateway.api.http.access import ADMIN, caller_of
from gateway.api.http.body import name_ignored, read_body
from gateway.api.http.headers import read_head, read_timeouts, wants_updates
from gateway.api.http.sse import EventStream, Pace, first_event, frames, while_connected
from gateway.api.native.operation import GenerateOperation
from gateway.api.native.render import GenerateRendering
from gateway.api.native.schema import GenerateBody, ModelState
from gateway.api.native.translate import reword, to_request, to_times
from gateway.api.reference.errors import BODY, ENGINE, GENERATION, KEY, error_responses
from gateway.api.reference.paths import Name, Owner, full_name
from gateway.cache import cache_policy
from gateway.engine import EngineError, Fold, GenerateEvent, Started
from gateway.hosting.hosting import HostedEngine, Hosting
from gateway.service import Inference
from gateway.telemetry import current_record, request_id

_decoder = msgspec.json.Decoder(GenerateBody)


def _operation_id(handler: HTTPRouteHandler, method: Method, path: list[str | PathParameterDefinition]) -> str:
    """Tell the two paths of a load apart, and those of an unload."""
    del method
    owned = any(isinstance(part, PathParameterDefinition) and part.name == "owner" for part in path)
    return f"{handler.handler_name}{'Owned' if owned else ''}Model"


class NativeController(Controller):
    """The gateway's own dialect."""

    path = "/v1"

    @post(
        "/generate",
        status_code=HTTP_200_OK,
        operation_id="generate",
        operation_class=GenerateOperation,
        tags=["generate"],
        summary="Go on with a text",
        responses=error_responses(*KEY, *BODY, *ENGINE, *GENERATION),
    )
    async def generate(
        self,
        request: Request[None, None, State],
        inference: NamedDependency[Inference],
    ) -> ASGIApp:
        """Go on with a text, or answer a conversation; whole, or as Server-Sent Events."""
        config, caller = inference.config, caller_of(request.scope)
        wanted, ignored = (await read_body(request)).decode(_decoder)
        headers = name_ignored(ignored, config.server)
        card = inference.card(wanted.model, caller)
        try:
            asked = to_request(wanted, card, config.generate, request_id.get(), caller.priority)
            head = read_head(request.scope)
            times = read_timeouts(head, to_times(wanted))
            visit = inference.admit(asked, caller, times, cache_policy(head.get("cache-control", "")))
            rendering = GenerateRendering(wanted, card.name, asked.id)
            if wanted.stream:
                events: AsyncGenerator[QueuePosition | GenerateEvent, None] = (
                    inference.generate_told(visit) if wants_updates(head) else inference.generate(visit)
                )
                first = await first_event(request.receive, events)
                pace = Pace(config.server.ping_seconds, config.server.stall_seconds)
                body_frames = frames(first, events, rendering.to_frame)
                return EventStream(body_frames, events, pace=pace, headers=headers | visit.headers)
            reply = await while_connected(request.receive, _whole(inference.generate(visit), rendering))
        except EngineError as error:
            reword(error, wanted)
            raise
        return ASGIResponse(body=reply, media_type="application/json", headers=headers | visit.headers)

    @post(
        ["/models/{name:str}/load", "/models/{owner:str}/{name:str}/load"],
        status_code=HTTP_200_OK,
        opt=ADMIN,
        operation_id=_operation_id,
        tags=["models"],
        summary="Load a model",
        response_description="The model, ready.",
        responses=error_responses(*KEY, *ENGINE, "load_failed"),
    )
    async def load(self, name: Name, hosting: NamedDependency[Hosting], owner: Owner = "") -> ModelState:
        """Load a model, by its name, its full id or its engine's name, and answer when it is ready."""
        return await _change(hosting.load, hosting, full_name(owner, name))

    @post(
        ["/models/{name:str}/unload", "/models/{owner:str}/{name:str}/unload"],
        status_code=HTTP_200_OK,
        opt=ADMIN,
        operation_id=_operation_id,
        tags=["models"],
        summary="Unload a model",
        response_description="The model, unloaded.",
        responses=error_responses(*KEY, "model_not_found", "engine_unavailable"),
    )
    async def unload(self, name: Name, hosting: NamedDependency[Hosting], owner: Owner = "") -> ModelState:
        """Let what runs finish, unload a model, and answer when its memory is free."""
        return await _change(hosting.unload, hosting, full_name(owner, name))


async def _change(change: Callable[[str], Awaitable[HostedEngine]], hosting: Hosting, name: str) -> ModelState:
    """Load or unload, and tell telemetry the model, which may be known only afterwards."""
    clock = time.perf_counter()
    try:
        seat = await change(name)
    finally:
        current_record().model = hosting.name_of(name)
    model = seat.cards[0].name if seat.cards else seat.name
    return ModelState(model, seat.name, seat.health, seat.engine is not None, round(time.perf_counter() - clock, 3))


async def _whole(events: AsyncGenerator[GenerateEvent, None], rendering: GenerateRendering) -> bytes:
    fold = Fold()
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Started):
                rendering.start(event)
            fold.add(event)
    return rendering.to_reply(fold.answer())
