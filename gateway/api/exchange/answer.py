"""The way of every generation over HTTP, in any dialect."""

from litestar import Request
from litestar.datastructures import State
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp

from gateway.api.exchange.asked import Asking
from gateway.api.exchange.dialect import B, Endpoint
from gateway.api.exchange.run import Run
from gateway.api.http.access import caller_of
from gateway.api.http.body import name_ignored, read_body
from gateway.api.http.headers import read_head, read_timeouts, wants_updates
from gateway.api.http.sse import PLAIN, EventStream, Framing, Pace, first_event, frames, while_connected
from gateway.cache import cache_policy
from gateway.engine import EngineError
from gateway.inflight import Options
from gateway.service import Inference
from gateway.telemetry import request_id

HttpRequest = Request[None, None, State]


async def answer(
    request: HttpRequest, inference: Inference, endpoint: Endpoint[B], framing: Framing = PLAIN
) -> ASGIApp:
    """Answer one request, whole or as Server-Sent Events; raise `Problem` or `EngineError` before its first byte."""
    caller, config = caller_of(request.scope), inference.config
    body, unknown = (await read_body(request)).decode(endpoint.decoder)
    headers = name_ignored(unknown, config.server)
    target = inference.find(body.model, caller)
    own_id = request_id.get()
    try:
        prompts = endpoint.to_prompts(body, Asking(target.card, config, own_id, caller.priority))
        head = read_head(request.scope)
        timeouts = read_timeouts(head, endpoint.to_timeouts(body))
        options = Options(timeouts, cache_policy(head.get("cache-control", "")), wants_updates(head))
        run = Run(inference, caller, target, prompts, options)
        rendering = endpoint.to_rendering(body, target.card, own_id)
        if not body.stream:
            reply = await while_connected(request.receive, run.whole(rendering))
            return ASGIResponse(body=reply, media_type="application/json", headers=headers | run.headers)
        events, to_frame = run.stream(rendering)
        first = await first_event(request.receive, events)
        pace = Pace(config.server.ping_seconds, config.server.stall_seconds)
        written = frames(first, events, to_frame, framing)
        return EventStream(written, events, pace=pace, headers=headers | run.headers, framing=framing)
    except EngineError as error:
        endpoint.reword(error, body)
        raise
