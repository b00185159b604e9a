"""The way of every generation over HTTP, in any dialect."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import nullcontext
from typing import Any

from litestar import Request
from litestar.datastructures import State
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.api.exchange.detached import BackgroundKeeper, ResumableRendering, detach
from gateway.api.exchange.dialect import B, Endpoint, Rendering
from gateway.api.exchange.keeper import AnswerKeeper
from gateway.api.exchange.prepared import AskedBody, prepare
from gateway.api.exchange.run import Run
from gateway.api.exchange.stored import StoredStream
from gateway.api.http.access import caller_of
from gateway.api.http.body import decode_body, name_ignored
from gateway.api.http.headers import read_head
from gateway.api.http.sse import PLAIN, EventStream, Framing, Pace, first_event, frames, while_connected
from gateway.auth import Caller
from gateway.background import Background
from gateway.engine import EngineError
from gateway.service import Inference
from gateway.telemetry import request_id

HttpRequest = Request[None, None, State]


async def answer(
    request: HttpRequest, inference: Inference, endpoint: Endpoint[B], framing: Framing = PLAIN
) -> ASGIApp:
    """Answer one request, whole or as Server-Sent Events; raise `Problem` or `EngineError` before its first byte."""
    caller, config = caller_of(request.scope), inference.config
    body, unknown, weight = await decode_body(request, endpoint.decoder)
    headers = name_ignored(unknown, config.server)
    try:
        made = await prepare(inference, endpoint, caller, AskedBody(body, weight, read_head(request.scope)))
        body, keeper, run, rendering = made.body, made.keeper, made.run, made.rendering
        if isinstance(keeper, BackgroundKeeper) and keeper.is_background and isinstance(rendering, ResumableRendering):
            state, answered = await detach(inference, caller, run, rendering, keeper)
            if not body.stream:
                return _json(state, headers)
            follower = endpoint.to_rendering(body, made.card, request_id.get())
            told = Told(answered.follow(), follower.to_frame, follower)
            return await event_stream(request, inference, told, framing, lambda: headers)
        if not body.stream:
            reply, own = await while_connected(request.receive, made.whole())
            return _json(reply, headers | own)
        told = _told(inference.background, caller, run, rendering, keeper)
        return await event_stream(request, inference, told, framing, lambda: headers | run.headers)
    except EngineError as error:
        endpoint.reword(error, body)
        raise


class Told(Struct, frozen=True):
    """The events of a stream, what encodes each, and the rendering that knows how to tell of a failure."""

    events: AsyncGenerator[object, None]
    encode: Callable[[Any], bytes]
    rendering: Rendering


async def event_stream(
    request: HttpRequest,
    inference: Inference,
    told: Told,
    framing: Framing,
    to_headers: Callable[[], Mapping[str, str]] = dict,
) -> EventStream:
    """Read the first event, and return the stream; raise `Problem` or `EngineError` where there is none.

    The headers are asked for when the first event is there.
    """
    first = await first_event(request.receive, told.events)
    server = inference.config.server
    written = frames(first, told.events, told.encode, framing, told.rendering.to_failure)
    pace = Pace(server.ping_seconds, server.stall_seconds)
    return EventStream(written, told.events, pace=pace, headers=to_headers(), framing=framing)


def _told(
    background: Background, caller: Caller, run: Run, rendering: Rendering, keeper: AnswerKeeper[Any] | None
) -> Told:
    if keeper is None:
        return Told(*run.stream(rendering), rendering)
    attended = background.attend(caller.id, keeper.id) if isinstance(keeper, BackgroundKeeper) else nullcontext()
    stored = StoredStream(run, rendering, keeper, attended)
    return Told(stored.events(), stored.encode, rendering)


def _json(body: bytes, headers: Mapping[str, str]) -> ASGIResponse:
    return ASGIResponse(body=body, media_type="application/json", headers=dict(headers))
