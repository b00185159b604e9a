"""The engine before a child that does by script what a real one does not do on request."""

import asyncio
import os
from contextlib import aclosing, asynccontextmanager

import pytest

from gateway.engine import (
    Choice,
    Completion,
    ContextTooLong,
    EngineError,
    EngineRestarted,
    FinishReason,
    GenerateRequest,
    Grammar,
    Health,
    InvalidRequest,
    JsonSchema,
    Overloaded,
    Sampling,
    Started,
    Tokens,
    Unavailable,
    collect,
)
from gateway_llamacpp import Settings, build, client
from tests.support.llama_child import LlamaChild

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _replaced_at_once(monkeypatch):
    monkeypatch.setattr(client, "_REPLACED_WITHIN", 0.0)


@asynccontextmanager
async def entered(folder, script=None, **settings):
    child = LlamaChild(folder, **(script or {}))
    async with (
        asyncio.timeout(PATIENCE),
        build(Settings(**(child.settings | {"places": 2, "context_window": 32} | settings))) as engine,
    ):
        yield engine, child


def request(prompt=None, constraint=None, **sampling):
    given = {"max_tokens": 3} | sampling
    return GenerateRequest(
        id="r", model="small", prompt=prompt or Tokens((2, 3)), sampling=Sampling(**given), constraint=constraint
    )


async def test_an_answer_is_asked_for_in_a_place_with_the_prompts_ids(tmp_path):
    async with entered(tmp_path) as (engine, child):
        answer = await collect(engine.generate(request(temperature=0.5, seed=7)))
        assert (answer.text, answer.finished.reason) == ("hello" * 3, FinishReason.LENGTH)
        assert answer.finished.usage.prompt_tokens == 2
        body = child.body
        assert (body["prompt"], body["n_predict"], body["temperature"], body["seed"]) == ([2, 3], 3, 0.5, 7)
        assert body["id_slot"] in (0, 1)
        status = await engine.status()
        assert (status.health, status.running, status.waiting) == (Health.READY, 0, 0)
        assert status.steps > 0


async def test_a_constraint_ends_the_answer_whatever_is_to_be_ignored(tmp_path):
    async with entered(tmp_path) as (engine, child):
        await collect(engine.generate(request(constraint=Grammar('root ::= "hello"+'), ignore_eos=True)))
        assert child.body["grammar"] == 'root ::= "hello"+'
        assert "ignore_eos" not in child.body
        await collect(engine.generate(request(ignore_eos=True)))
        assert child.body["ignore_eos"] is True


@pytest.mark.parametrize(
    ("asked", "error", "param"),
    [
        (request(max_tokens=31), ContextTooLong, "max_tokens"),
        (request(Tokens((8,))), InvalidRequest, "prompt"),
        (request(logit_bias={8: 1.0}), InvalidRequest, "logit_bias"),
        (request(stop_token_ids=(4,)), InvalidRequest, "stop_token_ids"),
        (request(constraint=Choice(())), InvalidRequest, "choice"),
    ],
)
async def test_what_cannot_be_is_refused_by_name_and_takes_no_place(tmp_path, asked, error, param):
    async with entered(tmp_path) as (engine, child):
        with pytest.raises(error) as refusal:
            await collect(engine.generate(asked))
        assert refusal.value.param == param
        assert (await engine.status()).running == 0
        assert not child.program.with_suffix(".body").exists()


@pytest.mark.parametrize(
    ("status", "kind", "error", "param"),
    [
        (400, "invalid_request_error", InvalidRequest, "json_schema"),
        (429, "", Overloaded, None),
        (503, "unavailable_error", Unavailable, None),
        (500, "server_error", EngineError, None),
    ],
)
async def test_what_the_child_refuses_is_refused_in_our_words(tmp_path, status, kind, error, param):
    async with entered(tmp_path, {"status": status, "kind": kind}) as (engine, _):
        with pytest.raises(error) as refusal:
            await collect(engine.generate(request(constraint=JsonSchema({"type": "string"}))))
        assert type(refusal.value) is error
        assert refusal.value.param == param
        assert (await engine.status()).running == 0


async def test_a_child_that_dies_in_an_answer_ends_it_and_is_told(tmp_path):
    async with entered(tmp_path, {"ends": True}) as (engine, _):
        with pytest.raises(EngineRestarted):
            await collect(engine.generate(request()))
        while (status := await engine.status()).health is not Health.FAILED:  # noqa: ASYNC110 - a status tells nobody
            await asyncio.sleep(0.01)
        assert status.detail == "llama-server exited with status 3"
        with pytest.raises(EngineRestarted):
            await engine.count_tokens("small", Completion("hello"))


async def test_an_answer_that_breaks_off_is_an_error(tmp_path):
    async with entered(tmp_path, {"breaks": True}) as (engine, _):
        with pytest.raises(EngineError, match="before it was finished"):
            await collect(engine.generate(request()))


async def test_a_reader_that_leaves_gives_the_place_to_the_next(tmp_path):
    async with entered(tmp_path, {"hangs": True}, places=1) as (engine, _):
        for _ in range(3):
            async with aclosing(engine.generate(request())) as events:
                assert isinstance(await anext(events), Started)
                assert (await engine.status()).running == 1
        assert (await engine.status()).running == 0


async def test_an_engine_that_was_left_ends_its_answers_and_its_child(tmp_path):
    async with entered(tmp_path, {"hangs": True}) as (engine, _):
        stream = engine.generate(request())
        await anext(stream)
        pid = engine._loaded.server.pid
    assert (await engine.status()).health is Health.UNLOADED
    assert engine.models() == ()
    with pytest.raises((Unavailable, EngineError)):
        async for _ in stream:
            pass
    with pytest.raises(Unavailable):
        await collect(engine.generate(request()))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_load_that_fails_is_the_engines_status(tmp_path):
    child = LlamaChild(tmp_path, words=["E no such thing"], dies=1)
    engine = build(Settings(**child.settings))
    with pytest.raises(EngineError):
        await engine.__aenter__()
    status = await engine.status()
    assert status.health is Health.FAILED
    assert "no such thing" in status.detail
