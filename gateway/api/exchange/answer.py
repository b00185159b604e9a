"""The way of every generation over HTTP, in any dialect."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, nullcontext
from typing import Any, Generic, Protocol

from litestar import Request
from litestar.datastructures import State
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.api.exchange.detached import BackgroundKeeper, ResumableRendering, detach
from gateway.api.exchange.dialect import B, Endpoint, Rendering
from gateway.api.exchange.keeper import AnswerKeeper
from gateway.api.exchange.prepared import AskedBody, Prepared, prepare
from gateway.api.exchange.run import Run
from gateway.api.exchange.stored import StoredStream
from gateway.api.http.access import caller_of
from gateway.api.http.body import decode_body, name_ignored
from gateway.api.http.connection import HttpConnection
from gateway.api.http.headers import read_head, read_timeouts, wants_updates
from gateway.api.http.problems import Problem
from gateway.api.http.reply import JsonReply
from gateway.api.http.sse import PLAIN, EventStream, Framing, Pace, first_event, frames, while_connected
from gateway.auth import Caller
from gateway.background import Background, BackgroundAnswer
from gateway.engine import EngineError
from gateway.hosting.directory import NotLoaded
from gateway.hosting.lease import Lease
from gateway.service import Inference
from gateway.telemetry import request_id

HttpRequest = Request[None, None, State]


async def answer(
    request: HttpConnection, inference: Inference, endpoint: Endpoint[B], framing: Framing = PLAIN
) -> ASGIApp:
    """Answer one request, whole or as Server-Sent Events; raise `Problem` or `EngineError` before its first byte."""
    caller = caller_of(request.scope)
    body, unknown, weight = await decode_body(request, endpoint.decoder)
    headers = name_ignored(unknown, inference.config.server)
    asked = AskedBody(body, weight, read_head(request.scope))
    try:
        try:
            made = await prepare(inference, endpoint, caller, asked)
        except NotLoaded as missing:
            lease = inference.lease(missing.hosted, read_timeouts(asked.head, endpoint.to_timeouts(body)))
            if body.stream and wants_updates(asked.head):
                late = LateStream(lease, inference, endpoint, caller, asked)
                told = Told(late.events(), late.encode, late)
                return await event_stream(request, inference, told, framing, lambda: headers)
            await while_connected(request.receive, lease.wait())
            made = await prepare(inference, endpoint, caller, asked)
        body, keeper, run, rendering = made.body, made.keeper, made.run, made.rendering
        if isinstance(keeper, BackgroundKeeper) and keeper.is_background and isinstance(rendering, ResumableRendering):
            state, answered = await detach(inference, caller, run, rendering, keeper)
            if not body.stream:
                return JsonReply(state, headers)
            told = _follow(answered, endpoint, made)
            return await event_stream(request, inference, told, framing, lambda: headers)
        if not body.stream:
            reply, own = await while_connected(request.receive, made.whole())
            return JsonReply(reply, headers | own)
        told = _told(inference.background, caller, run, rendering, keeper)
        return await event_stream(request, inference, told, framing, lambda: headers | run.headers)
    except EngineError as error:
        endpoint.reword(error, body)
        raise


class FailureTeller(Protocol):
    """What encodes the frame that ends a stream which failed."""

    def to_failure(self, problem: Problem) -> bytes | None:
        """Encode it; `None` where the framing's words for errors do."""
        ...


class Told(Struct, frozen=True):
    """The events of a stream, what encodes each, and the rendering that knows how to tell of a failure."""

    events: AsyncGenerator[object, None]
    encode: Callable[[Any], bytes]
    rendering: FailureTeller


class LateStream(Generic[B]):
    """A stream whose model is loaded first, of which it tells: only then is it known what to ask of the model."""

    def __init__(
        self, lease: Lease, inference: Inference, endpoint: Endpoint[B], caller: Caller, asked: AskedBody[B]
    ) -> None:
        self._lease = lease
        self._inference = inference
        self._endpoint = endpoint
        self._caller = caller
        self._asked = asked
        self._told: Told | None = None

    async def events(self) -> AsyncGenerator[object, None]:
        """Yield how far the load is, and then the events of the stream; raise `EngineError`."""
        try:
            async with aclosing(self._lease.updates()) as updates:
                async for update in updates:
                    yield update
            self._lease.leave()
            told = self._told = await self._tell()
            async with aclosing(told.events) as events:
                async for event in events:
                    yield event
        except EngineError as error:
            self._endpoint.reword(error, self._asked.body)
            raise

    def encode(self, event: Any) -> bytes:  # noqa: ANN401 - as the stream's own encoding
        """Encode an event of the stream."""
        return b"" if self._told is None else self._told.encode(event)

    def to_failure(self, problem: Problem) -> bytes | None:
        """Encode the frame that ends a stream which failed."""
        return None if self._told is None else self._told.rendering.to_failure(problem)

    async def _tell(self) -> Told:
        made = await prepare(self._inference, self._endpoint, self._caller, self._asked)
        keeper, rendering = made.keeper, made.rendering
        if isinstance(keeper, BackgroundKeeper) and keeper.is_background and isinstance(rendering, ResumableRendering):
            _, answered = await detach(self._inference, self._caller, made.run, rendering, keeper)
            return _follow(answered, self._endpoint, made)
        return _told(self._inference.background, self._caller, made.run, rendering, keeper)


async def event_stream(
    request: HttpConnection,
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
    pace = Pace(server.ping_seconds, server.stall_seconds, server.join_seconds)
    return EventStream(written, told.events, pace=pace, headers=to_headers(), framing=framing)


def _follow(answered: BackgroundAnswer, endpoint: Endpoint[B], made: Prepared[B]) -> Told:
    follower = endpoint.to_rendering(made.body, made.card, request_id.get())
    return Told(answered.follow(), follower.to_frame, follower)


def _told(
    background: Background, caller: Caller, run: Run, rendering: Rendering, keeper: AnswerKeeper[Any] | None
) -> Told:
    if keeper is None:
        return Told(*run.stream(rendering), rendering)
    attended = background.attend(caller.id, keeper.id) if isinstance(keeper, BackgroundKeeper) else nullcontext()
    stored = StoredStream(run, rendering, keeper, attended)
    return Told(stored.events(), stored.encode, rendering)
