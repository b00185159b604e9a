"""What Ray says of a replica becomes an answer of another one, or a typed error; the handle is scripted."""

import asyncio
from types import SimpleNamespace

import msgspec
import pytest

pytest.importorskip("ray", reason="Ray is not installed: uv sync --extra ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray's own libraries

from gateway.engine import (  # noqa: E402 - only where Ray is there
    Completion,
    DeadlineExceeded,
    Delta,
    Ended,
    EngineError,
    EngineRestarted,
    Finished,
    FinishReason,
    GenerateRequest,
    InvalidRequest,
    Overloaded,
    Started,
    Unavailable,
    Unsupported,
    UpstreamFailed,
    Usage,
    collect,
    encode,
    to_failure,
)

REQUEST = GenerateRequest(id="r", model="m", prompt=Completion("hi"), timeout=60.0)
ANSWER = [Started(1), Delta("a"), Finished(FinishReason.STOP, Usage(1, 1)), Ended()]


def run(*said):
    from gateway_ray.runs import EventRun  # noqa: PLC0415 - imports Ray

    return encode(EventRun("replica", None, list(said)))


class Response:
    """Says what it was told to say, raises what is an error, waits for ever where it is told to."""

    def __init__(self, script):
        self._script = iter(script)
        self.is_cancelled = False

    async def __anext__(self):
        said = next(self._script, StopAsyncIteration())
        if isinstance(said, BaseException):
            raise said
        if said is None:
            await asyncio.Event().wait()
        return said

    def __await__(self):
        return self.__anext__().__await__()

    def cancel(self):
        self.is_cancelled = True


class Handle:
    """Answers each request with the next script."""

    def __init__(self, *scripts):
        self.responses = [Response(script) for script in scripts]
        self.calls = []

    def options(self, **_):
        return self

    def remote(self, call):
        self.calls.append(call)
        return self.responses[len(self.calls) - 1]


@pytest.fixture
def ask(monkeypatch):
    """Make an engine that asks replicas with these scripts."""
    from gateway_ray.engine import RayEngine  # noqa: PLC0415 - imports Ray
    from gateway_ray.settings import InnerEngine, Settings  # noqa: PLC0415

    monkeypatch.setattr("gateway_ray.engine._PAUSE", 0.0)

    def make(*scripts):
        engine = RayEngine(Settings(engine=InnerEngine(plugin="echo")))
        engine._handle = Handle(*scripts)
        return engine

    return make


def died():
    from ray.exceptions import ActorDiedError  # noqa: PLC0415 - an extra

    return ActorDiedError()


async def test_an_answer_is_what_the_runs_say(ask):
    engine = ask([run(*ANSWER[:2]), run(*ANSWER[2:])])
    assert (await collect(engine.generate(REQUEST))).text == "a"
    assert not engine._handle.responses[0].is_cancelled
    assert (await engine.status()).running == 0


async def test_a_replica_that_is_lost_before_it_began_is_replaced_by_another(ask):
    engine = ask([died()], [asyncio.CancelledError()], [run(*ANSWER)])
    assert (await collect(engine.generate(REQUEST))).text == "a"
    assert len(engine._handle.calls) == 3


async def test_a_request_that_loses_replica_after_replica_is_given_up(ask):
    engine = ask(*[[died()]] * 9)
    with pytest.raises(EngineRestarted, match="4 replicas"):
        await collect(engine.generate(REQUEST))
    assert len(engine._handle.calls) == 4


@pytest.mark.parametrize("end", [died, StopAsyncIteration])
async def test_a_replica_that_is_lost_later_is_a_typed_error(ask, end):
    engine = ask([run(*ANSWER[:2]), end()], [run(*ANSWER)])
    with pytest.raises(EngineRestarted, match="before the answer was finished"):
        await collect(engine.generate(REQUEST))
    assert len(engine._handle.calls) == 1


@pytest.mark.parametrize("kind", [Overloaded, Unsupported])
async def test_what_the_hosted_engine_says_is_said(ask, kind):
    with pytest.raises(kind, match="no") as caught:
        await collect(ask([run(to_failure(kind("no")))]).generate(REQUEST))
    assert type(caught.value) is kind


async def test_a_replica_that_does_not_begin_is_given_up_with_the_requests_time(ask):
    engine = ask([None])
    with pytest.raises(DeadlineExceeded):
        await collect(engine.generate(msgspec.structs.replace(REQUEST, timeout=0.0)))
    assert engine._handle.responses[0].is_cancelled


async def test_closing_the_generator_cancels_the_call(ask):
    engine = ask([run(*ANSWER[:2]), None])
    events = engine.generate(REQUEST)
    await anext(events)
    await events.aclose()
    assert engine._handle.responses[0].is_cancelled
    assert (await engine.status()).running == 0


async def test_a_reader_that_is_cancelled_is_cancelled(ask):
    engine = ask([None])
    reading = asyncio.create_task(collect(engine.generate(REQUEST)))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (await engine.status()).waiting == 0


async def test_nonsense_is_a_fault_of_the_replica(ask):
    with pytest.raises(UpstreamFailed):
        await collect(ask([b"nonsense"]).generate(REQUEST))


async def test_a_fault_of_ours_in_the_replica_is_no_reason_to_ask_another(ask, caplog):
    from ray.exceptions import RayTaskError  # noqa: PLC0415 - an extra

    engine = ask([RayTaskError("f", "ValueError: the prompt was: hi", ValueError("hi"))], [run(*ANSWER)])
    with pytest.raises(EngineError) as caught:
        await collect(engine.generate(REQUEST))
    assert type(caught.value) is EngineError
    assert "prompt" not in str(caught.value)
    assert len(engine._handle.calls) == 1


async def test_an_engine_that_was_never_entered_is_unavailable(ask):
    engine = ask()
    engine._handle = None
    with pytest.raises(Unavailable):
        await collect(engine.generate(REQUEST))


async def test_what_cannot_be_sent_is_the_requests_fault(ask):
    request = msgspec.structs.replace(REQUEST, prompt=Completion("\ud800"))
    with pytest.raises(InvalidRequest, match="cannot be handed"):
        await collect(ask().generate(request))


async def test_a_question_is_asked_again_where_its_replica_is_lost(ask):
    from gateway.engine import Result, to_raw  # noqa: PLC0415 - beside its use

    engine = ask([died()], [encode(Result(to_raw(3)))], [encode(to_failure(Unsupported("no")))])
    assert await engine.count_tokens("m", Completion("a b c")) == 3
    with pytest.raises(Unsupported, match="no"):
        await engine.count_tokens("m", Completion("a b c"))


def test_the_application_tells_how_the_engine_is(ask):
    def state(status, running):
        deployments = {"engine": SimpleNamespace(replica_states={"RUNNING": running})}
        return SimpleNamespace(status=status, message="why", deployments=deployments)

    watch = ask()._watch
    told = []
    for seen in (state("RUNNING", 2), state("UNHEALTHY", 1), state("DEPLOYING", 0), None):
        watch._see(seen)
        told.append((watch.status.health, watch.status.detail))
    assert told == [
        ("ready", ""),
        ("ready", "1 replicas serve: why"),
        ("starting", "no replica serves: DEPLOYING why"),
        ("failed", "the application is gone from the cluster"),
    ]
