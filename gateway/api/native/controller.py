"""`POST /v1/generate` and the models: list, load, unload."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import msgspec
from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import PathParameter
from litestar.response.base import ASGIResponse
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp

from gateway.api.native.operation import GenerateOperation
from gateway.api.native.render import Rendering
from gateway.api.native.schema import GenerateBody, ModelList, ModelObject, ModelState
from gateway.api.native.translate import to_field, to_request
from gateway.api.payload import read_payload
from gateway.api.problems import Problem
from gateway.api.refusals import BODY, ENGINE, GENERATION, refusals
from gateway.api.streaming import EventStream, Pace, first_event, frames, while_connected
from gateway.config import Config
from gateway.engine import EngineError, Fold, GenerateEvent, ModelCard, Started
from gateway.hosting import Hosting, Seat
from gateway.service import Inference
from gateway.telemetry import request_id

ModelName = Annotated[
    str,
    PathParameter(description="The model's name, or its engine's.", examples=[Example(value="smollm2-135m-instruct")]),
]

_decoder = msgspec.json.Decoder(GenerateBody)
_STARTED = int(time.time())


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
        responses=refusals(*BODY, *ENGINE, *GENERATION),
    )
    async def generate(
        self,
        request: Request[None, None, State],
        inference: NamedDependency[Inference],
    ) -> ASGIApp:
        """Go on with a text, or answer a conversation; whole, or as Server-Sent Events."""
        config = inference.config
        wanted, ignored = (await read_payload(request)).decode(_decoder)
        headers = _ignored(ignored, config)
        card = inference.card(wanted.model)
        asked = to_request(wanted, card, config.generate, request_id.get())
        rendering = Rendering(wanted, card.name, asked.id)
        events = inference.generate(asked)
        try:
            if wanted.stream:
                first = await first_event(request.receive, events)
                pace = Pace(config.server.ping_seconds, config.server.stall_seconds)
                body_frames = frames(first, events, rendering.to_frame)
                return EventStream(body_frames, events, pace=pace, headers=headers)
            reply = await while_connected(request.receive, _whole(events, rendering))
        except EngineError as error:
            error.param = to_field(error.param)
            raise
        return ASGIResponse(body=reply, media_type="application/json", headers=headers)

    @get(
        "/models",
        operation_id="listModels",
        tags=["models"],
        summary="List the models",
        response_description="The models.",
        responses=refusals(),
    )
    async def models(self, hosting: NamedDependency[Hosting]) -> ModelList:
        """List the models, in the shape that OpenAI's clients read."""
        return ModelList("list", [_to_object(seat, card) for seat in hosting.seats for card in seat.cards])

    @post(
        "/models/{name:str}/load",
        status_code=HTTP_200_OK,
        operation_id="loadModel",
        tags=["models"],
        summary="Load a model",
        response_description="The model, ready.",
        responses=refusals("model_not_found", "load_failed"),
    )
    async def load(self, name: ModelName, hosting: NamedDependency[Hosting]) -> ModelState:
        """Load a model, by its own name or its engine's, and answer when it is ready."""
        clock = time.perf_counter()
        return _to_state(await hosting.load(name), time.perf_counter() - clock)

    @post(
        "/models/{name:str}/unload",
        status_code=HTTP_200_OK,
        operation_id="unloadModel",
        tags=["models"],
        summary="Unload a model",
        response_description="The model, unloaded.",
        responses=refusals("model_not_found"),
    )
    async def unload(self, name: ModelName, hosting: NamedDependency[Hosting]) -> ModelState:
        """Let what runs finish, unload a model, and answer when its memory is free."""
        clock = time.perf_counter()
        return _to_state(await hosting.unload(name), time.perf_counter() - clock)


async def _whole(events: AsyncGenerator[GenerateEvent, None], rendering: Rendering) -> bytes:
    fold = Fold()
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Started):
                rendering.start(event)
            fold.add(event)
    return rendering.to_reply(fold.answer())


def _ignored(keys: list[str], config: Config) -> dict[str, str]:
    """Name what nobody here knows: in a header, or as an error where the configuration is strict."""
    if keys and config.server.strict:
        raise Problem("unsupported_parameter", f"unknown: {', '.join(keys)}", param=keys[0])
    known = [key for key in keys if key.isascii() and key.isprintable()]
    return {"x-ignored-params": ",".join(known)[:1_024]} if keys else {}


def _to_object(seat: Seat, card: ModelCard) -> ModelObject:
    return ModelObject(
        id=card.name,
        created=_STARTED,
        owned_by=card.owner,
        aliases=card.aliases,
        engine=seat.name,
        loaded=seat.engine is not None,
        context_window=card.context_window,
        capabilities=tuple(sorted(card.capabilities)),
        device=card.device,
        dtype=card.dtype,
        note=card.note,
    )


def _to_state(seat: Seat, seconds: float) -> ModelState:
    name = seat.cards[0].name if seat.cards else seat.name
    return ModelState(name, seat.name, seat.health, seat.engine is not None, round(seconds, 3))
