"""Thoughts of a real model, tiny and random, whose template opens them: their budget, and what comes behind them."""

import json
from pathlib import Path

import pytest

from gateway.engine import (
    Capability,
    Chat,
    Choice,
    EngineError,
    FinishReason,
    GenerateRequest,
    JsonSchema,
    Message,
    Sampling,
    Text,
    Tool,
    Unsupported,
    collect,
)
from gateway_hf.engine import HfEngine
from gateway_hf.settings import Settings
from tests.support.tiny_models import CHAT_TEMPLATE
from tests.support.tool_templates import TEMPLATES

BUDGET = 6
# `</think>` is text to this tokenizer.
MARK = len("</think>")
# The tokens `<` and `{`.
ANGLE, BRACE = 32, 95
ASKED = (Message("user", (Text("Well?"),)),)
CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
FLAG = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
WEATHER = Tool("weather", parameters=CITY, strict=True)
OPENS = CHAT_TEMPLATE.replace("assistant\n'", "assistant\n<think>\n'") + "{# </think> #}"
HERMES = TEMPLATES["hermes"]


def ask(constraint=None, *, sampling=None, **chat):
    return GenerateRequest(
        id="r",
        model="m",
        prompt=Chat(ASKED, **chat),
        sampling=Sampling(**{"max_tokens": 200, "temperature": 1.0, "seed": 1, "ignore_eos": True} | (sampling or {})),
        constraint=constraint,
    )


def settings_of(template, folder, tiny):
    for file in Path(tiny("llama")).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "chat_template.jinja").write_text(template)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    return Settings(model=str(folder), dtype="float32", places=2, cache_tokens=4096, threads=1)


@pytest.fixture
async def thinker(tmp_path, tiny):
    """An engine whose model is inside a thought when its answer begins."""
    async with HfEngine(settings_of(OPENS, tmp_path, tiny)) as engine:
        yield engine


async def test_a_thought_is_closed_when_it_has_had_its_budget(thinker):
    """Also where each token tells its log probability, or is checked as a guess, and in whatever way it is drawn."""
    (card,) = thinker.models()
    assert {Capability.REASONING, Capability.REASONING_BUDGET} <= card.capabilities
    for sampling in ({}, {"temperature": 0.0}, {"logprobs": 1}, {"allowed_token_ids": (70, 71, 72)}):
        answer = await collect(thinker.generate(ask(sampling=sampling | {"max_tokens": 60}, reasoning_budget=BUDGET)))
        usage = answer.finished.usage
        assert answer.reasoning
        assert "</think>" not in answer.reasoning + answer.text
        assert BUDGET < usage.reasoning_tokens <= BUDGET + MARK + 3  # a character may have to be brought to its end
        assert usage.completion_tokens == 60
        assert answer.text or sampling == {"allowed_token_ids": (70, 71, 72)}


async def test_a_budget_that_is_not_used_up_changes_nothing(thinker):
    free, bound = [
        await collect(thinker.generate(ask(sampling={"max_tokens": 20}, reasoning_budget=budget)))
        for budget in (None, 100)
    ]
    assert (bound.reasoning, bound.text) == (free.reasoning, free.text)


@pytest.mark.parametrize("asked", [{"reasoning": False}, {"reasoning_budget": 0}])
async def test_a_model_that_always_thinks_does_not_where_it_is_not_to(thinker, asked):
    answer = await collect(thinker.generate(ask(sampling={"max_tokens": 30}, **asked)))
    assert answer.reasoning == ""
    assert answer.text
    assert answer.finished.usage.reasoning_tokens <= MARK


@pytest.mark.parametrize("asked", [{"reasoning": False}, {"reasoning_budget": BUDGET}])
@pytest.mark.parametrize("constraint", [Choice(("yes", "no")), JsonSchema(CITY)], ids=["choice", "json_schema"])
async def test_a_constraint_begins_behind_the_thought(thinker, constraint, asked):
    answer = await collect(thinker.generate(ask(constraint, **asked)))
    assert answer.finished.reason is FinishReason.STOP
    assert bool(answer.reasoning) is ("reasoning_budget" in asked)
    assert answer.text in {"yes", "no", '{"city": "Paris"}', '{"city": "Rome"}'}


async def test_a_constraint_waits_for_a_thought_without_a_budget(thinker):
    answer = await collect(thinker.generate(ask(Choice(("yes",)), sampling={"max_tokens": 30})))
    assert (answer.finished.reason, answer.text) == (FinishReason.LENGTH, "")
    assert answer.reasoning


async def test_a_call_comes_behind_the_thought(thinker):
    answer = await collect(thinker.generate(ask(tools=(WEATHER,), tool_choice="weather", reasoning_budget=BUDGET)))
    (call,) = answer.tool_calls
    assert answer.finished.reason is FinishReason.TOOL_CALLS
    assert json.loads(call.arguments)["city"] in {"Paris", "Rome"}
    assert answer.reasoning


async def test_a_model_that_cannot_be_told_not_to_think_refuses_that(tmp_path, tiny):
    async with HfEngine(settings_of(TEMPLATES["harmony"], tmp_path, tiny)) as engine:
        with pytest.raises(Unsupported, match="cannot be told not to") as refused:
            await collect(engine.generate(ask(reasoning=False)))
        assert refused.value.param == Capability.REASONING
        bound = await collect(engine.generate(ask(sampling={"max_tokens": 20}, reasoning_budget=BUDGET)))
        assert bound.finished.usage.completion_tokens == 20


async def test_an_answer_calls_or_has_the_shape_that_is_asked_for(tmp_path, tiny):
    """Of a model that was taught to call: which of the two it does is its own affair, a third there is not."""
    shape, may_call = JsonSchema(FLAG), {"tools": (WEATHER,), "parallel_tool_calls": False}
    async with HfEngine(settings_of(HERMES, tmp_path, tiny)) as engine:
        said = await collect(engine.generate(ask(shape, sampling={"logit_bias": {BRACE: 100.0}}, **may_call)))
        assert said.finished.reason is FinishReason.STOP
        assert json.loads(said.text)["ok"] in {True, False}
        assert not said.tool_calls
        made = await collect(engine.generate(ask(shape, sampling={"logit_bias": {ANGLE: 100.0}}, **may_call)))
        assert (made.finished.reason, made.text) == (FinishReason.TOOL_CALLS, "")
        assert json.loads(made.tool_calls[0].arguments)["city"] in {"Paris", "Rome"}
        required = await collect(engine.generate(ask(shape, **may_call, tool_choice="required")))
        assert required.finished.reason is FinishReason.TOOL_CALLS
        none = await collect(engine.generate(ask(shape, tools=(WEATHER,), tool_choice="none")))
        assert none.finished.reason is FinishReason.STOP
        assert json.loads(none.text)["ok"] in {True, False}


async def test_a_text_beside_tools_is_proved_by_itself(tmp_path, tiny, monkeypatch):
    """A grammar that lets through what the schema does not is no excuse."""
    monkeypatch.setattr("gateway_hf.tools.plan.write_grammar", lambda *_: 'start: "{}"')
    async with HfEngine(settings_of(HERMES, tmp_path, tiny)) as engine:
        with pytest.raises(EngineError, match="does not keep to its constraint"):
            await collect(engine.generate(ask(JsonSchema(FLAG), tools=(WEATHER,))))


async def test_a_shape_that_cannot_be_is_not_blamed_on_the_tools(tmp_path, tiny):
    shape = JsonSchema({"type": "object", "properties": {"a": {"not": {"type": "null"}}}})
    async with HfEngine(settings_of(HERMES, tmp_path, tiny)) as engine:
        with pytest.raises(Exception, match="not") as refused:
            await collect(engine.generate(ask(shape, tools=(WEATHER,))))
        assert refused.value.param == "json_schema"
