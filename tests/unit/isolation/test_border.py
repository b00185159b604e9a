"""Client and server, at a socket of the same loop: who leaves, who is late, who is lost, who lies."""

import asyncio
import os
from contextlib import aclosing, asynccontextmanager, suppress

import pytest
from msgspec import Raw

from gateway.engine import (
    Chat,
    Completion,
    Delta,
    Engine,
    EngineError,
    EngineRestarted,
    Finished,
    Health,
    InvalidRequest,
    LoadFailed,
    Message,
    ModelCard,
    Overloaded,
    Started,
    Status,
    Text,
    Unavailable,
    Unsupported,
    Usage,
    collect,
    to_raw,
)
from gateway.isolation import ConnectionLost, RemoteEngine
from gateway.isolation.wire import Cancel, Frames, Generate, Heartbeat, Question, pack, read_message
from gateway.testing.script import Fault, Panic
from gateway.testing.scripted import ScriptedEngine, Settings
from tests.support.border import across, scripted, served


class Steps(Engine):
    """Tells a delta to every call each time that it is stepped; counts who runs."""

    def __init__(self):
        self.running = 0
        self._step = asyncio.Condition()

    def models(self):
        return (ModelCard(name="steps", context_window=8, capabilities=frozenset()),)

    async def generate(self, request):
        self.running += 1
        try:
            yield Started(1)
            while True:
                async with self._step:
                    await self._step.wait()
                yield Delta("x")
        finally:
            self.running -= 1

    async def step(self):
        async with self._step:
            self._step.notify_all()


async def until(holds):
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0)


@pytest.fixture
async def engine():
    async with ScriptedEngine(Settings()) as engine:
        yield engine


@asynccontextmanager
async def raw(path):
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


STATUS = Question(1, "status", to_raw(()))


async def messages(reader):
    frames = Frames()
    while piece := await reader.read(2**16):
        for body in frames.feed(piece):
            yield read_message(body)


async def test_the_events_of_one_step_come_in_one_frame():
    steps = Steps()
    async with served(steps) as (_, path), raw(path) as (reader, writer):
        writer.write(b"".join(pack(Generate(call, scripted(call))) for call in range(8)))
        stream = messages(reader)
        assert (await anext(stream)).cards == steps.models()
        assert (await anext(stream)).numbers == tuple(range(8))
        started = await anext(stream)
        assert [(call, type(reply)) for call, reply in started.replies] == [(call, Started) for call in range(8)]
        await steps.step()
        assert sorted((await anext(stream)).replies) == [(call, Delta("x")) for call in range(8)]


async def test_closing_the_generator_cancels_the_call():
    steps = Steps()
    async with across(steps) as remote:
        async with aclosing(remote.generate(scripted())) as events:
            assert isinstance(await anext(events), Started)
            assert steps.running == 1
        await until(lambda: steps.running == 0)


async def test_a_lost_connection_cancels_every_call():
    steps = Steps()
    async with served(steps) as (server, path):
        async with RemoteEngine(path) as remote:
            streams = [remote.generate(scripted(number)) for number in range(4)]
            await asyncio.gather(*map(anext, streams))
            assert steps.running == 4
        await until(lambda: steps.running == 0)
        assert not server.connections
        for stream in streams:
            await stream.aclose()


async def test_a_call_that_is_cut_off_before_started_says_so_and_after_it_otherwise(engine):
    async with served(engine) as (server, path), RemoteEngine(path) as remote:
        early = asyncio.create_task(collect(remote.generate(scripted(1, fault=Fault.HANG, after=-1))))
        late = remote.generate(scripted(2, fault=Fault.HANG, after=0))
        assert isinstance(await anext(late), Started)
        await until(lambda: len(engine.requests) == 2)
        for connection in list(server.connections):
            connection._transport.abort()
        with pytest.raises(ConnectionLost):
            await early
        with pytest.raises(EngineRestarted, match="before the answer was finished"):
            await anext(late)
        with pytest.raises(ConnectionLost):
            await collect(remote.generate(scripted(3)))
        assert (await remote.status()).health is Health.FAILED


async def test_a_reader_that_stands_still_stops_no_other():
    steps = Steps()
    async with across(steps) as remote:
        slow, quick = remote.generate(scripted(1)), remote.generate(scripted(2))
        await asyncio.gather(anext(slow), anext(quick))
        for _ in range(50):
            await steps.step()
            assert (await anext(quick)).tokens == 1
        assert await anext(slow) == Delta("x" * 50, 50)
        await slow.aclose()
        await quick.aclose()


async def test_a_peer_that_reads_nothing_stops_its_calls_and_no_others():
    class Talker(Steps):
        told = 0

        async def generate(self, request):
            yield Started(1)
            while True:
                await asyncio.sleep(0)
                self.told += request.id == "r1"
                yield Delta("x" * 4096)

    talker = Talker()
    async with served(talker) as (_, path), RemoteEngine(path) as other, raw(path) as (_, writer):
        writer.transport.pause_reading()
        writer.write(pack(Generate(1, scripted(1))))
        seen, still = 0, 0
        async with asyncio.timeout(10), aclosing(other.generate(scripted(2))) as events:
            async for _ in events:
                still = still + 1 if talker.told == seen else 0
                seen = talker.told
                if seen and still == 200:
                    break


@pytest.mark.parametrize("code", ["overloaded", "context_length_exceeded", "draining"])
async def test_a_typed_error_arrives_as_what_it_is(engine, code):
    async with across(engine) as remote:
        with pytest.raises(EngineError, match="the reason") as caught:
            await collect(remote.generate(scripted(fault=Fault.RAISE, after=-1, code=code, message="the reason")))
    assert caught.value.code == code


async def test_a_retry_after_arrives():
    class Full(Steps):
        async def generate(self, request):
            raise Overloaded("full", retry_after=9.0)
            yield

    async with across(Full()) as remote:
        with pytest.raises(Overloaded) as caught:
            await collect(remote.generate(scripted()))
    assert caught.value.retry_after == 9.0


async def test_a_bug_in_the_engine_fails_its_call_alone_and_keeps_its_text_to_the_log(engine, caplog):
    async with across(engine) as remote:
        with pytest.raises(EngineError) as caught:
            await collect(remote.generate(scripted(fault=Fault.BUG, after=1, message="canary")))
        assert "canary" not in str(caught.value)
        assert "canary" in caplog.text
        assert (await collect(remote.generate(scripted()))).text == "Once upon a time."


ABNORMAL = {"panic": Panic, "quit": SystemExit, "interrupt": KeyboardInterrupt, "cancel": asyncio.CancelledError}


class Abnormal(Engine):
    """Answers what it is told to with an exception that is no `Exception`; it has one place."""

    def __init__(self):
        self.place = asyncio.Semaphore(1)
        self.raised = ()

    def models(self):
        return (ModelCard(name="abnormal", context_window=8, capabilities=frozenset()),)

    async def generate(self, request):
        async with self.place:
            yield Started(1)
            if self.raised:
                raise self.raised[0]
            yield Finished("stop", Usage(1, 0))

    async def count_tokens(self, model, prompt):
        raise self.raised[0]

    async def status(self):
        if self.raised:
            raise self.raised[0]
        return Status(health=Health.READY)


@pytest.mark.parametrize("raised", ABNORMAL.values(), ids=ABNORMAL)
async def test_what_is_no_exception_fails_its_call_alone_and_frees_its_place(raised, caplog):
    abnormal = Abnormal()
    async with across(abnormal) as remote, asyncio.timeout(10):
        abnormal.raised = (raised("canary"),)
        for call in (
            collect(remote.generate(scripted(1))),
            remote.count_tokens("abnormal", Completion("a")),
        ):
            with pytest.raises(EngineError) as caught:
                await call
            assert (type(caught.value), "canary" in str(caught.value)) == (EngineError, False)
        assert "raised what no engine may raise" in caplog.text
        abnormal.raised = ()
        assert [type(event) async for event in remote.generate(scripted(2))] == [Started, Finished]
        assert (await remote.status()).health is Health.READY


async def test_a_heart_beats_on_where_the_status_panics():
    abnormal = Abnormal()
    async with served(abnormal, beat=0.001) as (_, path), raw(path) as (reader, _):
        abnormal.raised = (Panic(),)
        stream, beats = messages(reader), 0
        async with asyncio.timeout(10):
            while beats < 3:
                message = await anext(stream)
                beats += isinstance(message, Heartbeat) and message.status.health is Health.FAILED


async def test_a_stream_without_its_end_arrives_without_it(engine):
    async with across(engine) as remote:
        events = [event async for event in remote.generate(scripted(fault=Fault.CUT, after=1))]
    assert [type(event) for event in events] == [Started, Delta]


async def test_an_event_that_cannot_be_sent_fails_its_call_and_no_other(caplog):
    class Torn(Steps):
        async def generate(self, request):
            yield Started(1)
            yield Delta("\ud800" if request.id == "r1" else "fine")
            yield Finished("stop", None) if request.id == "none" else Delta("more")

    async with across(Torn()) as remote:
        torn, whole = await asyncio.gather(
            collect(remote.generate(scripted(1))),
            anext(remote.generate(scripted(2))),
            return_exceptions=True,
        )
    assert type(torn) is EngineError
    assert isinstance(whole, Started)
    assert "cannot be sent" in caplog.text


async def test_a_request_that_cannot_be_sent_is_the_callers_fault():
    async with across(Steps()) as remote:
        with pytest.raises(InvalidRequest, match="cannot be handed"):
            await remote.count_tokens("m", Completion("\ud800"))


async def test_embeddings_and_counts_are_asked_for(engine):
    async with across(engine) as remote:
        assert await remote.count_tokens("scripted", Completion("a b c")) == 3
        assert await remote.tokenize("scripted", Completion("a b a ")) == (0, 1, 0)
        assert await remote.detokenize("scripted", [1, 0]) == ("b ", "a ")
        assert await remote.render("scripted", Chat((Message("user", (Text("hi"),)),))) == "hi"
        assert await remote.status() == Status(health=Health.READY)
    async with across(Steps()) as remote:
        with pytest.raises(Unsupported):
            await remote.count_tokens("steps", Completion("a"))
        with pytest.raises(Unsupported):
            await remote.tokenize("steps", Completion("a"))
        with pytest.raises(Unsupported):
            await remote.detokenize("steps", ())


@pytest.mark.parametrize(
    "bad",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\1\xc1",
        pack(Heartbeat(1, 1, Status(health=Health.READY))),
        pack(Question(1, "no_question", to_raw(()))),
        pack(Question(1, "generate", to_raw(()))),
        pack(Question(1, "__aexit__", to_raw(()))),
        pack(Question(1, "count_tokens", to_raw(("m",)))),
        pack(Question(1, "count_tokens", to_raw(("m", Completion("a"), 1)))),
        pack(Question(1, "count_tokens", to_raw((1, Completion("a"))))),
        pack(Question(1, "status", Raw(b"\xc1"))),
    ],
)
async def test_what_is_no_call_ends_its_connection_and_no_other(bad, engine):
    async with served(engine) as (server, path), RemoteEngine(path) as other, raw(path) as (reader, writer):
        writer.write(bad)
        try:
            async with asyncio.timeout(10):
                await reader.read()
        except ConnectionResetError:
            pass
        assert len(server.connections) == 1
        assert (await collect(other.generate(scripted()))).text == "Once upon a time."


async def test_a_call_number_that_is_taken_ends_the_connection(engine):
    async with served(engine) as (server, path), raw(path) as (_, writer):
        writer.write(pack(Generate(1, scripted(fault=Fault.HANG))) + pack(STATUS))
        await until(lambda: not server.connections)


async def test_cancelling_what_does_not_run_is_no_error(engine):
    async with served(engine) as (_, path), raw(path) as (reader, writer):
        writer.write(pack(Cancel(7)) + pack(STATUS))
        stream = messages(reader)
        await anext(stream)
        assert (await anext(stream)).numbers == (1,)
        assert (await anext(stream)).replies[0][0] == 1


async def test_a_call_that_is_cancelled_before_it_begins_is_over():
    """Else the engine looks busy for ever, and one that is idle is taken for one that hangs."""
    async with served(Steps(), beat=0.001) as (_, path), raw(path) as (reader, writer):
        writer.write(pack(Generate(1, scripted())) + pack(Cancel(1)))
        stream = messages(reader)
        async with asyncio.timeout(5):
            told = [await anext(stream) for _ in range(8)]
    assert told[-1].calls == 0


async def test_a_server_that_sends_no_message_is_hung_up_on(tmp_path):
    path = str(tmp_path / "engine")

    async def lie(reader, writer):
        writer.write(b"\xff\xff\xff\xff")
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(lie, path):
        with pytest.raises(ConnectionLost):
            await RemoteEngine(path).__aenter__()


async def test_nobody_but_the_user_is_served(engine, monkeypatch):
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    async with served(engine) as (server, path), raw(path) as (reader, _writer):
        assert await reader.read() == b""
        assert not server.connections


async def test_where_nobody_listens_the_engine_is_unavailable(tmp_path):
    with pytest.raises(Unavailable):
        await RemoteEngine(str(tmp_path / "none")).__aenter__()


async def test_who_is_early_waits_for_the_engine_and_hears_why_there_is_none(engine):
    for say, expected in (
        (lambda server: server.open(engine), None),
        (lambda server: server.refuse(LoadFailed("no such file")), LoadFailed),
    ):
        async with served(None) as (server, path):
            remote = RemoteEngine(path)
            entering = asyncio.create_task(remote.__aenter__())
            await until(lambda server=server: len(server.connections) == 1)
            say(server)
            if expected is None:
                assert (await entering).models() == engine.models()
            else:
                with pytest.raises(expected, match="no such file"):
                    await entering
            await remote.__aexit__()


async def test_beats_tell_an_engine_that_gets_on_from_one_that_hangs(engine):
    async with served(engine, beat=0.001) as (_, path), RemoteEngine(path) as remote:
        idle = remote.progress
        await until(lambda: remote.progress > idle + 3)
        async with aclosing(remote.generate(scripted(fault=Fault.HANG))) as events:
            await anext(events)
            await asyncio.sleep(0.05)
            stuck = remote.progress
            # Neither who asks, nor who comes and goes, is the engine's progress.
            for _ in range(20):
                await asyncio.sleep(0.003)
                assert (await remote.status()).running > 0
                assert await remote.count_tokens("scripted", Completion("a b")) == 2
                stream = remote.generate(scripted(1, fault=Fault.HANG, after=-1))
                coming = asyncio.create_task(anext(stream))
                await asyncio.sleep(0.003)
                coming.cancel()
            assert remote.progress == stuck
        await until(lambda: remote.progress > stuck + 3)


async def test_beats_tell_an_engine_that_computes_and_says_nothing_yet(engine):
    async with served(engine, beat=0.001) as (_, path), RemoteEngine(path) as remote:
        asking = asyncio.create_task(collect(remote.generate(scripted(prefill=60))))
        await until(lambda: engine.requests)
        begun = (await remote.status()).steps
        before = remote.progress
        await until(lambda: remote.progress > before + 3)
        assert (await remote.status()).steps > begun
        asking.cancel()


async def test_questions_alone_are_progress(engine):
    class Slow(ScriptedEngine):
        async def count_tokens(self, model, prompt):
            await asyncio.sleep(0.01)
            return 1

    async with Slow(Settings()) as slow, served(slow, beat=0.001) as (_, path), RemoteEngine(path) as remote:
        asking = [remote.count_tokens("scripted", Completion("a")) for _ in range(3)]
        before = remote.progress
        for number, each in enumerate(asking):
            waiting = asyncio.create_task(remote.count_tokens("scripted", Completion("b")))
            assert await each == 1
            await until(lambda number=number: remote.progress > before + number)
            await waiting
