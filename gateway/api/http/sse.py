"""Answers over HTTP: the first event before the status line, SSE frames, keep-alive, and clients that leave."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import TypeVar, cast

import msgspec
from litestar.types import Receive, Scope, Send
from loguru import logger
from msgspec import Struct

from gateway.admission import QueuePosition
from gateway.api.http.frame_writer import FrameWriter
from gateway.api.http.problems import OWN_WORDS, ErrorWords, Problem, to_problem
from gateway.engine import EngineError, Finished
from gateway.flow.tasks import end_all
from gateway.hosting.hosted import LoadProgress
from gateway.telemetry import current_record, request_id

T = TypeVar("T")

# Seconds that a client which leaves may go unnoticed.
_SOON = 0.005

PING, DONE = b": ping\n\n", b"data: [DONE]\n\n"
CUT_OFF = "the stream ended before it was finished"


class Framing(Struct, frozen=True):
    """What differs between the streams of the dialects: the ping, the words of an error, and what says it is over."""

    ping: bytes = PING
    errors: ErrorWords = OWN_WORDS
    done: bytes = DONE


PLAIN = Framing()


async def while_connected(receive: Receive, work: Coroutine[None, None, T]) -> T:
    """Do `work` unless the client leaves first, which cancels it and raises `client_closed_request`.

    The work runs in a task of its own, so that its clean-up is cancelled once, not again at every `await` in it. The
    client is watched when it does not end at once: to ask the server for that costs more than a small answer.
    """
    task = asyncio.create_task(work)
    left: asyncio.Task[None] | None = None
    try:
        await _end_soon(task)
        if not task.done():
            left = asyncio.create_task(_disconnect(receive))
            await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Problem("client_closed_request", "the client left before the answer was finished")
    finally:
        if left is not None:
            _drop(left)
        # The next one to close a generator must not find it running.
        if not task.done():
            await end_all([task], (EngineError, Problem))
        elif not task.cancelled():
            task.exception()  # it may have failed in the moment in which this one was cancelled
        del task, left  # a task keeps its error, whose traceback holds this frame


async def _end_soon(task: asyncio.Task[T]) -> None:
    """Wait for the end of a task, `_SOON` at most; `asyncio.wait` takes three times as long to do it."""
    loop = asyncio.get_running_loop()
    turn = loop.create_future()

    def wake(_: object = None) -> None:
        if not turn.done():
            turn.set_result(None)

    timer = loop.call_later(_SOON, wake)
    task.add_done_callback(wake)
    try:
        await turn
    finally:
        timer.cancel()
        task.remove_done_callback(wake)


def _drop(task: asyncio.Task[None]) -> None:
    """Cancel a task without waiting for its end, and drop what it raises."""
    task.cancel()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


async def first_event(receive: Receive, events: AsyncGenerator[T, None]) -> T:
    """Read the first event, so that an error before it is an HTTP status; close the stream where there is none."""
    try:
        return await while_connected(receive, _first(events))
    except BaseException:
        await events.aclose()
        raise


async def _first(events: AsyncGenerator[T, None]) -> T:
    event = await anext(events, None)
    if event is None:
        raise EngineError(CUT_OFF)
    return event


async def frames(
    first: object,
    events: AsyncGenerator[object, None],
    to_frame: Callable[[T], bytes],
    framing: Framing = PLAIN,
    to_failure: Callable[[Problem], bytes | None] = lambda _: None,
) -> AsyncGenerator[bytes, None]:
    """Yield the SSE frames of a stream whose first event was read; an error, or no `Finished`, is the last frame.

    The events are what `to_frame` takes; what comes before, of a load or the queue, are comments. An error is told
    by `to_failure`, else in the words of the framing.
    """
    last = first
    async with aclosing(events):
        try:
            while type(last) is QueuePosition or type(last) is LoadProgress:
                yield _comment(last)
                last = await _first(events)
            if frame := to_frame(cast("T", last)):
                yield frame
            async for last in cast("AsyncGenerator[T, None]", events):
                if frame := to_frame(last):
                    yield frame
            _check_finished(last)
        except EngineError as error:
            yield _error_frame(error, framing, to_failure)
        except Exception as error:  # noqa: BLE001 - the status is sent: a frame is all that can still be said
            logger.opt(exception=error).error("a stream failed in a way that nothing foresaw")
            yield _error_frame(error, framing, to_failure)
        else:
            if framing.done:
                yield framing.done


def _comment(place: QueuePosition | LoadProgress) -> bytes:
    if isinstance(place, LoadProgress):
        step = f" step={msgspec.json.encode(place.step).decode()} progress={place.share:.2f}" if place.step else ""
        return f": load model={place.model}{step}\n\n".encode()
    eta = "" if place.eta is None else f" eta={place.eta:.1f}"
    return f": queue position={place.position}{eta}\n\n".encode()


def _check_finished(last: object) -> None:
    if not isinstance(last, Finished):
        raise EngineError(CUT_OFF)


class Pace(Struct, frozen=True):
    """How long a stream may be silent before it pings, and its client read nothing, and how long a frame may wait.

    All are in seconds.
    """

    ping_seconds: float
    stall_seconds: float
    join_seconds: float = 0.0


class EventStream:
    """An SSE answer as an ASGI application: sends the frames of `events`, pings while there are none.

    It ends when the client leaves, or reads nothing for too long. However it ends, `events` is closed.
    """

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        events: AsyncGenerator[object, None],
        *,
        pace: Pace,
        headers: Mapping[str, str] | None = None,
        framing: Framing = PLAIN,
    ) -> None:
        self._ping = framing.ping
        self._frames = frames
        self._events: AsyncGenerator[object, None] = events
        self._pace = pace
        self._headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        self._headers |= {"x-accel-buffering": "no"} | dict(headers or {})
        self._is_idle = True
        self._has_stalled = False
        self._sending: asyncio.Task[object] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole stream."""
        del scope
        # Frames that were never asked for close nothing: so the events are closed here.
        async with aclosing(self._events), aclosing(self._frames):
            try:
                await while_connected(receive, self._pump(send))
            except Problem as problem:
                # The client left or stalled: there is nobody to tell, only telemetry.
                current_record().code = problem.code

    async def _pump(self, send: Send) -> None:
        """Send all frames, while timers see to pings and stalls: tasks would cost the first frame 30 µs."""
        self._sending = asyncio.current_task()
        writer = FrameWriter(send, self._pace.join_seconds)
        self._set("ping", self._pace.ping_seconds, self._look_idle, writer)
        self._set("stall", self._pace.stall_seconds, self._look_stalled, (writer, 0))
        try:
            await self._send(send, writer)
        except asyncio.CancelledError:
            if not self._has_stalled:
                raise
            current_record().outcome = "aborted"
            raise Problem("write_timeout", "the client read nothing for too long") from None
        finally:
            self._sending = None
            for timer in self._timers.values():
                timer.cancel()
            writer.drop()

    async def _send(self, send: Send, writer: FrameWriter) -> None:
        headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for frame in self._frames:
            self._is_idle = False
            await writer.write(frame)
        await writer.end()

    def _set(self, name: str, seconds: float, look: Callable[[T], None], seen: T) -> None:
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, look, seen)

    def _look_idle(self, writer: FrameWriter) -> None:
        """Send a ping after an interval that saw no frame, so that no proxy takes the connection for dead."""
        if self._is_idle:
            writer.interject(self._ping)
        self._is_idle = True
        self._set("ping", self._pace.ping_seconds, self._look_idle, writer)

    def _look_stalled(self, seen: tuple[FrameWriter, int]) -> None:
        """End the stream when one write has been on its way for the whole of the time that a client may stall."""
        writer, before = seen
        if before == writer.steps and before % 2 and self._sending is not None:
            self._has_stalled = True
            self._sending.cancel()
        else:
            self._set("stall", self._pace.stall_seconds, self._look_stalled, (writer, writer.steps))


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _error_frame(error: Exception, framing: Framing, to_failure: Callable[[Problem], bytes | None]) -> bytes:
    problem = to_problem(error)
    current_record().code = problem.code
    return to_failure(problem) or framing.errors.to_frame(problem, request_id.get())
