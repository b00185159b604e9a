"""The way of every generation over HTTP, in any dialect."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

from litestar import Request
from litestar.datastructures import State
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp
from msgspec import Struct, structs

from gateway.api.exchange.asked import Asking
from gateway.api.exchange.detached import BackgroundKeeper, ResumableRendering, detach
from gateway.api.exchange.dialect import B, Endpoint, Rendering
from gateway.api.exchange.keeper import AnswerKeeper
from gateway.api.exchange.run import Run
from gateway.api.exchange.stored import StoredStream, stored_whole
from gateway.api.http.access import caller_of
from gateway.api.http.body import decode_body, name_ignored
from gateway.api.http.headers import read_head, read_timeouts, wants_updates
from gateway.api.http.sse import PLAIN, EventStream, Framing, Pace, first_event, frames, while_connected
from gateway.auth import Caller
from gateway.background import Background
from gateway.cache import cache_policy
from gateway.engine import EngineError
from gateway.flow.offload import offload_large
from gateway.inflight import Options
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
    target = inference.find(body.model, caller)
    own_id = request_id.get()
    try:
        asking = Asking(target.card, config, own_id, caller.priority)
        keeper = endpoint.to_keeper(body, own_id, inference.store.of(caller.id))
        if keeper is not None:
            asking = structs.replace(asking, past=await keeper.recall(config.server.max_body_bytes))
            body = keeper.body
        prompts = await offload_large(weight, partial(endpoint.to_prompts, body, asking))
        target = inference.choose(target, prompts.requests)
        head = read_head(request.scope)
        timeouts = read_timeouts(head, endpoint.to_timeouts(body))
        policy = cache_policy(head.get("cache-control", ""))
        options = Options(timeouts, policy, wants_updates(head), prompts.shorten)
        run = Run(inference, caller, target, prompts, options)
        rendering = endpoint.to_rendering(body, target.card, own_id)
        if isinstance(keeper, BackgroundKeeper) and keeper.is_background and isinstance(rendering, ResumableRendering):
            state, made = await detach(inference, caller, run, rendering, keeper)
            if not body.stream:
                return _json(state, headers)
            follower = endpoint.to_rendering(body, target.card, own_id)
            told = Told(made.follow(), follower.to_frame, follower)
            return await event_stream(request, inference, told, framing, lambda: headers)
        if not body.stream:
            return await _whole(request, run, rendering, keeper, headers)
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


async def _whole(
    request: HttpRequest, run: Run, rendering: Rendering, keeper: AnswerKeeper[Any] | None, headers: Mapping[str, str]
) -> ASGIResponse:
    stored: Mapping[str, str] = {}
    if keeper is None:
        reply = await while_connected(request.receive, run.whole(rendering))
    else:
        reply, stored = await while_connected(request.receive, stored_whole(run, rendering, keeper))
    return _json(reply, {**headers, **run.headers, **stored})


def _json(body: bytes, headers: Mapping[str, str]) -> ASGIResponse:
    return ASGIResponse(body=body, media_type="application/json", headers=dict(headers))
