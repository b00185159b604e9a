"""Tools over real models: the built-in one, which was taught none, and a tiny one with a template that takes them."""

import asyncio
import json
from pathlib import Path

import jsonschema
import pytest

from gateway.engine import (
    Capability,
    Chat,
    Delta,
    FinishReason,
    GenerateRequest,
    InvalidRequest,
    JsonObject,
    Message,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolDelta,
    ToolResult,
    collect,
)
from gateway_hf.engine import HfEngine
from gateway_hf.settings import Settings
from tests.support.tool_templates import TEMPLATES

pytestmark = pytest.mark.slow

TRIES = 20
WEATHER = Tool(
    "get_weather",
    "Say the weather of a city.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
        "required": ["city"],
    },
    strict=True,
)
ADD = Tool(
    "add",
    "Add two numbers.",
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]},
)
TOOLS = {tool.name: tool for tool in (WEATHER, ADD)}
ASKED = Message("user", (Text("What is the weather in Paris?"),))


def ask(seed=1, messages=(ASKED,), *, constraint=None, most=400, temperature=1.0, **chat):
    return GenerateRequest(
        id=f"r{seed}",
        model="m",
        prompt=Chat(messages, **{"tools": tuple(TOOLS.values()), **chat}),
        sampling=Sampling(temperature=temperature, seed=seed, max_tokens=most),
        constraint=constraint,
    )


def check(calls, only=tuple(TOOLS)):
    assert calls
    for call in calls:
        assert call.name in only
        jsonschema.validate(json.loads(call.arguments), TOOLS[call.name].parameters)


@pytest.fixture(scope="module")
def builtin():
    return Settings()


@pytest.fixture
async def engine(builtin):
    async with HfEngine(builtin) as engine:
        yield engine


@pytest.fixture
def templated(tmp_path, tiny):
    """Settings of a tiny model with the template of a family."""

    def settings(name):
        folder = tmp_path / name
        folder.mkdir()
        for file in Path(tiny("llama")).iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "chat_template.jinja").write_text(TEMPLATES[name])
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
        return Settings(model=str(folder), dtype="float32", places=2, cache_tokens=8192)

    return settings


async def test_the_card_says_in_what_form_it_calls(engine):
    (card,) = engine.models()
    assert card.tools == "generic"
    assert {Capability.TOOLS, Capability.PARALLEL_TOOL_CALLS} <= card.capabilities
    assert not {Capability.REASONING, Capability.REASONING_EFFORT} & card.capabilities


async def test_a_required_call_is_valid_every_time(engine):
    """Also of a model of 135 million weights that was taught no tools, and at temperature 1."""
    asked = [ask(seed, tool_choice="required") for seed in range(TRIES)]
    answers = await asyncio.gather(*(collect(engine.generate(request)) for request in asked))
    for answer in answers:
        assert answer.finished.reason is FinishReason.TOOL_CALLS
        check(answer.tool_calls)
    ids = [call.id for answer in answers for call in answer.tool_calls]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("chosen", [{"tool_choice": "add"}, {"tool_choice": "required", "allowed_tools": ("add",)}])
async def test_only_the_tool_that_was_chosen_is_called(engine, chosen):
    asked = [ask(seed, **chosen) for seed in range(4)]
    for answer in await asyncio.gather(*(collect(engine.generate(request)) for request in asked)):
        check(answer.tool_calls, only=("add",))


async def test_arguments_come_in_pieces_and_every_token_is_counted(engine):
    events = [event async for event in engine.generate(ask(tool_choice="required"))]
    pieces = [event for event in events if isinstance(event, ToolDelta)]
    assert len([piece for piece in pieces if piece.arguments]) > 3
    counted = sum(event.tokens for event in events if isinstance(event, Delta | ToolDelta))
    assert counted == events[-1].usage.completion_tokens


async def test_a_choice_of_none_calls_nothing_and_tells_of_no_tools(engine):
    answer = await collect(engine.generate(ask(tool_choice="none", most=8)))
    plain = await collect(engine.generate(ask(tools=(), most=8)))
    assert answer.text == plain.text
    assert answer.started.prompt_tokens == plain.started.prompt_tokens


async def test_a_call_and_its_result_are_read(engine):
    call = Message("assistant", (ToolCall("c1", "get_weather", '{"city": "Paris"}'),))
    result = Message("tool", (ToolResult("c1", "It is sunny, 21 degrees."),))
    asked = ask(messages=(ASKED, call, result), tool_choice="none", most=40, temperature=0.0)
    answer = await collect(engine.generate(asked))
    assert "sunny" in answer.text or "21" in answer.text


async def test_a_call_that_is_cut_says_length(engine):
    answer = await collect(engine.generate(ask(tool_choice="required", most=16)))
    assert answer.finished.reason is FinishReason.LENGTH


async def test_an_object_may_stand_in_place_of_a_call(engine):
    for seed in range(3):
        answer = await collect(engine.generate(ask(seed, constraint=JsonObject(), most=200)))
        if answer.finished.reason is FinishReason.STOP:
            assert isinstance(json.loads(answer.text), dict)


async def test_a_strict_schema_that_cannot_be_held_to_is_refused_by_its_tool(engine):
    odd = Tool("odd", parameters={"type": "object", "properties": {"a": {"not": {"type": "null"}}}}, strict=True)
    with pytest.raises(InvalidRequest) as refused:
        await collect(engine.generate(ask(tools=(odd,))))
    assert refused.value.param == "tools"


# One of harmony's thinks first, and only a model that was taught to comes to an end of that.
@pytest.mark.parametrize("name", sorted(TEMPLATES.keys() - {"harmony"}))
async def test_each_form_is_asked_for_and_read(templated, name):
    """A tiny random model is held to the form of the family, by its template alone."""
    flag = Tool("flag", parameters={"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]})
    async with HfEngine(templated(name)) as engine:
        (card,) = engine.models()
        assert card.tools == name
        asked = ask(tools=(flag,), tool_choice="flag", most=300)
        answer = await collect(engine.generate(asked))
    (call,) = answer.tool_calls
    assert (call.name, answer.text) == ("flag", "")
    assert isinstance(json.loads(call.arguments)["on"], bool)
    assert answer.finished.reason is FinishReason.TOOL_CALLS
