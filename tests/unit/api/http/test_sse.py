import asyncio
import gc
import json
from contextlib import aclosing

import pytest
from loguru import logger
from msgspec import Struct
from opentelemetry.trace import INVALID_SPAN

from gateway.api.http.problems import ErrorWords, Problem
from gateway.api.http.sse import DONE, EventStream, Framing, Pace, first_event, frames, while_connected
from gateway.engine import Delta, EngineError, Finished, FinishReason, Overloaded, Started, Usage
from gateway.telemetry.context import open_record

STARTED = Started(3)
FINISHED = Finished(FinishReason.STOP, Usage(3, 1))


class Client:
    """The other side of an ASGI application."""

    def __init__(self) -> None:
        self.sent: list[dict] = []
        self.left = asyncio.Event()
        self.got = asyncio.Event()

    async def receive(self):
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)
        self.got.set()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


class Engine:
    """Tells events, then raises, hangs or ends; knows whether its stream was closed."""

    def __init__(self, *events, error=None, hangs=False) -> None:
        self.closed = False
        self._events = events
        self._error = error
        self._hangs = hangs

    async def generate(self):
        try:
            for event in self._events:
                yield event
            if self._hangs:
                await asyncio.Event().wait()
            if self._error is not None:
                raise self._error
        finally:
            await asyncio.sleep(0)
            self.closed = True


def to_frame(event) -> bytes:
    return event.text.encode() if isinstance(event, Delta) else b""


async def told(engine: Engine) -> list[bytes]:
    events = engine.generate()
    first = await anext(events)
    return [frame async for frame in frames(first, events, to_frame)]


def code(frame: bytes) -> str:
    assert frame.startswith(b"data: ")
    assert frame.endswith(b"\n\n")
    return json.loads(frame.removeprefix(b"data: "))["error"]["code"]


async def test_a_whole_stream_ends_with_done():
    engine = Engine(STARTED, Delta("a"), Delta(""), Delta("b"), FINISHED)
    assert await told(engine) == [b"a", b"b", DONE]
    assert engine.closed


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Overloaded("so it is"), "overloaded"),
        (EngineError(""), "engine_error"),
        (ZeroDivisionError("secret"), "internal_error"),
    ],
)
async def test_an_error_is_the_last_frame(error, expected):
    record = open_record(INVALID_SPAN)
    engine = Engine(STARTED, Delta("a"), error=error)
    first, last = await told(engine)
    assert first == b"a"
    assert code(last) == expected
    assert b"secret" not in last
    assert record.code == expected
    assert engine.closed


class Code(Struct):
    code: str


async def test_a_dialect_frames_an_error_and_the_end_as_it_likes():
    quiet = Framing(ping=b"p", errors=ErrorWords(to_body=lambda problem, _: Code(problem.code), event="no"), done=b"")
    for engine, last in (
        (Engine(STARTED, Delta("a"), FINISHED), []),
        (Engine(STARTED, Delta("a")), [b'event: no\ndata: {"code":"engine_error"}\n\n']),
    ):
        events = engine.generate()
        told = [frame async for frame in frames(await anext(events), events, to_frame, quiet)]
        assert told == [b"a", *last]


async def test_a_stream_without_finished_is_no_whole_one():
    first, last = await told(Engine(STARTED, Delta("a")))
    assert (first, code(last)) == (b"a", "engine_error")


async def test_leaving_the_frames_closes_the_engines_stream():
    engine = Engine(STARTED, Delta("a"), hangs=True)
    events = engine.generate()
    async with aclosing(frames(await anext(events), events, to_frame)) as stream:
        assert await anext(stream) == b"a"
    assert engine.closed


async def test_the_first_event_is_read_and_the_stream_stays_open():
    engine = Engine(STARTED, FINISHED)
    assert await first_event(Client().receive, engine.generate()) == STARTED
    assert not engine.closed


@pytest.mark.parametrize("error", [Overloaded("so it is"), ZeroDivisionError("so it is")])
async def test_an_error_before_the_first_event_is_raised_and_closes_the_stream(error):
    engine = Engine(error=error)
    with pytest.raises(type(error)):
        await first_event(Client().receive, engine.generate())
    assert engine.closed


async def test_no_event_at_all_is_an_error_of_the_engine():
    with pytest.raises(EngineError, match="before it was finished"):
        await first_event(Client().receive, Engine().generate())


async def test_who_leaves_before_the_first_event_closes_the_stream():
    client, engine = Client(), Engine(hangs=True)
    client.left.set()
    with pytest.raises(Problem, match="left"):
        await first_event(client.receive, engine.generate())
    assert engine.closed


async def test_work_is_done_while_the_client_stays():
    assert await while_connected(Client().receive, asyncio.sleep(0, "done")) == "done"


async def test_leaving_cancels_the_work_and_waits_for_its_clean_up():
    client = Client()
    steps = []

    async def work():
        try:
            client.left.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")

    with pytest.raises(Problem) as left:
        await while_connected(client.receive, work())
    assert left.value.code == "client_closed_request"
    assert steps == ["cleaned up"]


async def test_work_that_is_done_when_the_client_leaves_counts():
    client = Client()
    client.left.set()
    assert await while_connected(client.receive, asyncio.sleep(0, "done")) == "done"


async def test_cancelling_from_outside_cancels_the_work():
    begun, over = asyncio.Event(), asyncio.Event()

    async def work():
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            over.set()

    serving = asyncio.create_task(while_connected(Client().receive, work()))
    await begun.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert over.is_set()


async def test_nothing_is_left_running():
    before = asyncio.all_tasks()
    client = Client()
    await while_connected(client.receive, asyncio.sleep(0))
    await EventStream(_texts(b"a"), _texts(), pace=Pace(9, 60))({}, client.receive, client.send)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def _texts(*texts: bytes, then: asyncio.Event | None = None):
    for text in texts:
        yield text
    if then is not None:
        await then.wait()
        yield b"end"


async def test_an_event_stream_is_sent_whole():
    client = Client()
    await EventStream(_texts(b"a", b"b"), _texts(), pace=Pace(9, 60), headers={"x-a": "b"})(
        {}, client.receive, client.send
    )
    start, *bodies = client.sent
    headers = dict(start["headers"])
    assert start["status"] == 200
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert (headers[b"cache-control"], headers[b"x-accel-buffering"], headers[b"x-a"]) == (b"no-cache", b"no", b"b")
    assert [(message["body"], message["more_body"]) for message in bodies] == [(b"a", True), (b"b", True), (b"", False)]


async def test_frames_that_come_together_are_one_write_and_the_same_bytes():
    client, texts = Client(), [b"%d;" % number for number in range(200)]
    await EventStream(_texts(*texts), _texts(), pace=Pace(9, 60, 60))({}, client.receive, client.send)
    assert client.body == b"".join(texts)
    assert len(client.sent) == 1 + 4 + 3 + 1  # the head, the first frames, 64 each, and the rest with the end
    assert [message.get("more_body") for message in client.sent][-2:] == [True, False]


async def test_a_silent_stream_is_kept_alive_by_comments():
    client = Client()
    go_on = asyncio.Event()
    serving = asyncio.create_task(
        EventStream(_texts(b"a", then=go_on), _texts(), pace=Pace(0.001, 60))({}, client.receive, client.send)
    )
    while client.body.count(b": ping\n\n") < 2:
        client.got.clear()
        await client.got.wait()
    go_on.set()
    await serving
    assert client.body.startswith(b"a")
    assert client.body.endswith(b"end")


async def test_who_leaves_a_stream_closes_its_frames():
    client = Client()
    closed = asyncio.Event()

    async def endless():
        try:
            yield b"a"
            await asyncio.Event().wait()
        finally:
            closed.set()

    serving = asyncio.create_task(EventStream(endless(), _texts(), pace=Pace(9, 60))({}, client.receive, client.send))
    while client.body != b"a":
        client.got.clear()
        await client.got.wait()
    client.left.set()
    await serving
    assert closed.is_set()
    assert client.sent[-1]["more_body"]


class Stubborn(Engine):
    """Takes its time to clean up, and may fail at it."""

    def __init__(self, fault: Exception | None = None) -> None:
        super().__init__()
        self.begun, self.closing, self.may_close = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._fault = fault

    async def generate(self):
        try:
            self.begun.set()
            await asyncio.Event().wait()
            yield STARTED
        finally:
            self.closing.set()
            await self.may_close.wait()
            self.closed = True
            if self._fault is not None:
                raise self._fault


@pytest.fixture
async def unheard():
    """What the loop was told of: exceptions that nobody retrieved."""
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    return told


@pytest.mark.parametrize("leaves", [True, False], ids=["left", "cancelled"])
async def test_a_second_cancellation_waits_for_the_clean_up_too(leaves):
    client, engine = Client(), Stubborn()
    serving = asyncio.create_task(first_event(client.receive, engine.generate()))
    await engine.begun.wait()
    client.left.set() if leaves else serving.cancel()
    await engine.closing.wait()
    for _ in range(3):
        serving.cancel()
        await asyncio.sleep(0)
    assert not serving.done()
    engine.may_close.set()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert engine.closed


async def test_a_stream_that_is_cancelled_twice_closes_its_engine_once():
    client, engine = Client(), Stubborn()
    events = engine.generate()
    stream = EventStream(frames(STARTED, events, to_frame), events, pace=Pace(9, 60))
    serving = asyncio.create_task(stream({}, client.receive, client.send))
    await engine.begun.wait()
    serving.cancel()
    await engine.closing.wait()
    serving.cancel()
    await asyncio.sleep(0)
    engine.may_close.set()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert engine.closed


@pytest.mark.parametrize("fault", [ZeroDivisionError("in the clean-up"), EngineError("gone")], ids=["bug", "error"])
async def test_an_error_of_the_clean_up_is_heard(fault, unheard):
    told = []
    sink = logger.add(lambda message: told.append(message.record), level="ERROR")
    client, engine = Client(), Stubborn(fault)
    engine.may_close.set()
    serving = asyncio.create_task(first_event(client.receive, engine.generate()))
    await engine.begun.wait()
    client.left.set()
    with pytest.raises(Problem, match="left"):
        await serving
    logger.remove(sink)
    gc.collect()
    await asyncio.sleep(0)
    assert unheard == []
    assert [line["exception"].value for line in told] == ([] if isinstance(fault, EngineError) else [fault])


async def test_a_connection_that_breaks_badly_is_one_that_is_left(unheard):
    async def receive():
        raise ConnectionResetError

    with pytest.raises(Problem, match="left"):
        await while_connected(receive, asyncio.Event().wait())
    gc.collect()
    await asyncio.sleep(0)
    assert unheard == []
