"""An answer that may call or think is asked of the chat endpoint, and read as that of any server of its dialect."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from msgspec import structs

from gateway.engine import (
    Capability,
    Chat,
    EngineError,
    FinishReason,
    GenerateRequest,
    InvalidRequest,
    JsonSchema,
    Message,
    Sampling,
    Text,
    Tool,
    ToolDelta,
    collect,
)
from gateway_llamacpp import Settings, build
from tests.support.llama_child import LlamaChild

SAID = (Message("user", (Text("hello world"),)),)
CALLS = Chat(SAID, (Tool("time"),))
CAN = {"supports_tools": True, "supports_tool_calls": True}


def frame(reason=None, **delta):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def call(**function):
    return {"index": 0, "function": function}


USAGE = {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 4}}
CALLED = [
    frame(role="assistant", content=None),
    frame(reasoning_content="h"),
    frame(reasoning_content="m"),
    frame(tool_calls=[call(name="time") | {"id": "1"}]),
    frame(tool_calls=[call(arguments="{}")]),
    frame("tool_calls"),
    USAGE,
]


@asynccontextmanager
async def entered(folder, **script):
    child = LlamaChild(folder, "a template", **({"caps": CAN, "chat": CALLED} | script))
    async with asyncio.timeout(60), build(Settings(**child.settings, places=1, context_window=32)) as engine:
        yield engine, child


def request(chat=CALLS, constraint=None, **sampling):
    given = Sampling(**({"max_tokens": 20, "temperature": 0.5} | sampling))
    return GenerateRequest(id="r", model="small", prompt=chat, sampling=given, constraint=constraint)


async def test_a_call_is_asked_for_in_a_place_and_told_in_pieces(tmp_path):
    async with entered(tmp_path) as (engine, child):
        events = [event async for event in engine.generate(request(stop=("x",)))]
        body = child.body
    assert body["tools"][0]["function"]["name"] == "time"
    assert (body["tool_choice"], body["id_slot"], body["n_predict"]) == ("auto", 0, 20)
    assert (body["temperature"], body["stop"]) == (0.5, ["x"])
    pieces = [event for event in events if isinstance(event, ToolDelta)]
    assert (pieces[0].id, pieces[0].name) == ("1", "time")
    assert "".join(piece.arguments for piece in pieces) == "{}"
    assert events[0].queue_seconds > 0
    assert events[-1].reason is FinishReason.TOOL_CALLS
    assert events[-1].usage.completion_tokens == 4
    assert events[-1].usage.reasoning_tokens > 0


async def test_only_a_template_with_a_place_for_tools_makes_a_model_that_calls(tmp_path):
    async with entered(tmp_path) as (engine, _):
        (card,) = engine.models()
    assert {Capability.TOOLS, Capability.PARALLEL_TOOL_CALLS, Capability.CHAT} <= card.capabilities
    assert card.tools == "llama-server"
    for caps in ({}, {"supports_tools": True}, {"supports_tool_calls": True}):
        async with entered(tmp_path, caps=caps) as (engine, _):
            (card,) = engine.models()
        assert Capability.TOOLS not in card.capabilities
        assert card.tools == ""


async def test_where_no_tool_may_be_called_the_answer_is_asked_for_by_ids(tmp_path):
    async with entered(tmp_path) as (engine, child):
        answer = await collect(engine.generate(request(structs.replace(CALLS, tool_choice="none"))))
        assert "tools" not in child.body
        assert child.body["prompt"] == [2, 2]
    assert answer.text == "hello" * 3


@pytest.mark.parametrize(
    ("frames", "match"),
    [
        ([frame(content="a")], "llama-server: .* before it was finished"),
        ([frame(content="a"), frame("stop")], "how many tokens"),
        ([{"error": {"message": "secret"}}], "failed while it answered"),
        ([{"choices": 1}], "no part of an answer"),
    ],
)
async def test_an_answer_that_is_none_is_a_typed_error(tmp_path, frames, match):
    async with entered(tmp_path, chat=frames) as (engine, _):
        with pytest.raises(EngineError, match=match) as failure:
            await collect(engine.generate(request()))
        assert type(failure.value) is EngineError
        assert "secret" not in failure.value.message
        assert (await engine.status()).running == 0


async def test_a_tool_that_the_server_refuses_is_refused_by_name(tmp_path):
    async with entered(tmp_path, status=400, kind="invalid_request_error") as (engine, _):
        with pytest.raises(InvalidRequest) as refusal:
            await collect(engine.generate(request()))
    assert refusal.value.param == "tools"


async def test_a_shape_and_tools_are_refused_before_the_server_is_asked(tmp_path):
    async with entered(tmp_path) as (engine, child):
        with pytest.raises(InvalidRequest) as refusal:
            await collect(engine.generate(request(constraint=JsonSchema({"type": "object"}))))
        assert refusal.value.param == "tools"
        assert not child.program.with_suffix(".body").exists()
