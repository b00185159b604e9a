"""The scripted engine strikes where its script says, and nowhere else."""

import asyncio
import itertools
import math
import subprocess
import sys
from contextlib import aclosing

import msgspec
import pytest

from gateway.engine import (
    Chat,
    Completion,
    DeadlineExceeded,
    Delta,
    EngineError,
    Finished,
    Health,
    InvalidRequest,
    LoadFailed,
    Message,
    Overloaded,
    Started,
    Text,
    Unavailable,
    UpstreamFailed,
    collect,
    load,
)
from gateway.testing.script import EXIT_STATUS, Fault, Script
from gateway.testing.scripted import ScriptedEngine, Settings
from tests.support.asking import request

TEXTS = ("a ", "b ", "c ")


def scripted(**script):
    return ScriptedEngine(Settings(script=Script(texts=TEXTS, **script)))


async def read(engine, asked=None):
    """Return the events, and the error that ended them."""
    events = []
    async with engine:
        try:
            async with aclosing(engine.generate(asked or request())) as stream:
                async for event in stream:
                    events.append(event)  # noqa: PERF401 - what was told before an error is kept
        except (EngineError, RuntimeError) as error:
            return events, error
    return events, None


def texts(events):
    return [event.text for event in events if isinstance(event, Delta)]


async def test_without_a_fault_the_texts_are_told():
    events, error = await read(scripted())
    assert (texts(events), error) == (list(TEXTS), None)


@pytest.mark.parametrize("after", [-1, 0, 2, 3])
@pytest.mark.parametrize("kind", [EngineError, Overloaded, UpstreamFailed, DeadlineExceeded, Unavailable])
async def test_an_error_strikes_after_so_many_deltas(kind, after):
    events, error = await read(scripted(fault=Fault.RAISE, code=kind.code, message="now", after=after))
    assert (type(error), str(error)) == (kind, "now")
    assert texts(events) == list(TEXTS[: max(after, 0)])
    assert bool(events) is (after >= 0)


async def test_more_min_tokens_than_the_answer_may_have_are_refused():
    events, error = await read(scripted(), request(min_tokens=4, max_tokens=3))
    assert (events, type(error)) == ([], InvalidRequest)


async def test_a_bug_is_no_engine_error():
    _, error = await read(scripted(fault=Fault.BUG))
    assert type(error) is RuntimeError


@pytest.mark.parametrize("after", [-1, 1, 3])
async def test_a_cut_stream_ends_without_finished(after):
    events, error = await read(scripted(fault=Fault.CUT, after=after))
    assert error is None
    assert not [event for event in events if isinstance(event, Finished)]
    assert bool(events) is (after >= 0)


async def test_a_hanging_stream_ends_when_its_reader_leaves():
    async with scripted(fault=Fault.HANG, after=1) as engine:
        stream = engine.generate(request())
        assert isinstance(await anext(stream), Started)
        assert isinstance(await anext(stream), Delta)
        reader = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        assert not reader.done()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert (await engine.status()).running == 0


async def test_a_deaf_stream_goes_on_though_it_is_cancelled():
    async with scripted(fault=Fault.DEAF, seconds=0.2) as engine:
        stream = engine.generate(request())
        await anext(stream)
        reader = asyncio.create_task(anext(stream))
        for _ in range(5):
            await asyncio.sleep(0)
        reader.cancel()
        assert await reader == Delta("a ")
        await stream.aclose()


async def test_a_blocked_thread_lets_nobody_else_run():
    turns = []
    async with scripted(fault=Fault.BLOCK, seconds=0.05) as engine:
        reader = asyncio.create_task(collect(engine.generate(request())))
        started = asyncio.get_running_loop().time()
        while not reader.done():
            await asyncio.sleep(0)
            turns.append(asyncio.get_running_loop().time() - started)
    assert max(after - before for before, after in itertools.pairwise(turns)) >= 0.05


def test_exit_takes_the_process_along():
    script = Script(texts=TEXTS, fault=Fault.EXIT, after=1)
    code = (
        "import asyncio, msgspec\n"
        "from gateway.engine import Completion, GenerateRequest, collect\n"
        "from gateway.testing.scripted import plugin\n"
        "async def main():\n"
        "    async with plugin.build(plugin.settings()) as engine:\n"
        f"        prompt = Completion({envelope(script)!r})\n"
        "        await collect(engine.generate(GenerateRequest(id='1', model='scripted', prompt=prompt)))\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == EXIT_STATUS


def envelope(script):
    return msgspec.json.encode({"script": script}).decode()


@pytest.mark.parametrize("wrap", [Completion, lambda text: Chat((Message("user", (Text(text),)),))])
async def test_a_prompt_brings_its_own_script(wrap):
    events, _ = await read(scripted(), request(wrap(envelope(Script(texts=("own",))))))
    assert texts(events) == ["own"]


@pytest.mark.parametrize("prompt", ["{", '{"script": {"txets": []}}', '{"script": {}, "more": 1}', "[1]"])
async def test_a_prompt_that_is_no_script_is_just_a_prompt(prompt):
    events, _ = await read(scripted(), request(prompt))
    assert texts(events) == list(TEXTS)


@pytest.mark.parametrize(("logprob", "odd"), [("nan", math.isnan), ("-inf", math.isinf)])
async def test_a_logprob_may_be_no_number(logprob, odd):
    events, _ = await read(scripted(logprob=logprob), request(logprobs=1))
    assert odd(events[1].logprobs[0].logprob)
    assert odd(events[1].logprobs[0].top[0].logprob)


async def test_a_character_may_come_in_pieces_and_tokens_without_text():
    engine = ScriptedEngine(Settings(script=Script(texts=("", "👩", "\u200d", "", "🚀"))))
    events, _ = await read(engine)
    assert texts(events) == ["", "👩", "\u200d", "", "🚀"]
    assert events[-1].usage.completion_tokens == 5


async def test_a_load_that_fails_says_so():
    engine = ScriptedEngine(Settings(load_failure="no such model", detail="no such model"))
    assert (await engine.status()).health is Health.STARTING
    with pytest.raises(LoadFailed, match="no such model"):
        await engine.__aenter__()
    assert (await engine.status()).health is Health.FAILED


async def test_a_slow_load_is_starting_until_it_is_done():
    engine = ScriptedEngine(Settings(load=3600))
    loading = asyncio.create_task(engine.__aenter__())
    await asyncio.sleep(0)
    assert (await engine.status()).health is Health.STARTING
    with pytest.raises(Unavailable):
        await anext(engine.generate(request()))
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading


async def test_health_is_what_was_set():
    async with ScriptedEngine(Settings(health=Health.FAILED, detail="lost a card")) as engine:
        status = await engine.status()
        assert (status.health, status.detail) == (Health.FAILED, "lost a card")
        engine.health = Health.READY
        assert (await engine.status()).health is Health.READY


async def test_who_runs_and_who_waits_is_counted():
    async with ScriptedEngine(Settings(places=1)) as engine:
        first = engine.generate(request())
        await anext(first)
        second = asyncio.create_task(collect(engine.generate(request("again"))))
        while not (await engine.status()).waiting:  # noqa: ASYNC110 - a status tells nobody
            await asyncio.sleep(0)
        assert (await engine.status()).running == 1
        await first.aclose()
        await second
        assert [asked.prompt.text for asked in engine.requests] == ["hi", "again"]


def test_an_unknown_error_code_is_refused():
    with pytest.raises(msgspec.ValidationError, match="no EngineError has the code 'teapot'"):
        msgspec.convert({"script": {"code": "teapot"}}, Settings)


def test_it_is_installed_as_a_plugin():
    assert load("scripted").settings is Settings
