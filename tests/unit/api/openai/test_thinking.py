"""The words for thinking of OpenAI, vLLM, Qwen, OpenRouter and Anthropic: one meaning each."""

import pytest

from gateway.api.openai.thinking import thinking_path
from gateway.engine import Capability, InvalidRequest, needs
from tests.support.openai_dialect import asked, chat
from tests.unit.api.openai.test_parameters import missing


def thinking(**fields):
    prompt = asked(chat(**fields)).prompt
    return prompt.reasoning, prompt.reasoning_effort, prompt.reasoning_budget


@pytest.mark.parametrize("value", [2**64, [{"a": -(2**63) - 1}]])
def test_a_number_that_no_process_is_told_is_refused_by_name(value):
    with pytest.raises(InvalidRequest) as error:
        asked(chat(chat_template_kwargs={"a": value}))
    assert error.value.param == "chat_template_kwargs"


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({}, (None, None, None)),
        ({"reasoning_effort": "none"}, (False, None, None)),
        ({"reasoning_effort": "minimal"}, (None, "minimal", None)),
        ({"reasoning_effort": "high"}, (None, "high", None)),
        ({"reasoning_effort": "xhigh"}, (None, "xhigh", None)),
        ({"reasoning_effort": "max"}, (None, "max", None)),
        ({"enable_thinking": True}, (True, None, None)),
        ({"enable_thinking": False}, (False, None, None)),
        ({"thinking_budget": 9}, (None, None, 9)),
        ({"thinking_budget": -1}, (None, None, None)),
        ({"thinking_budget": 0}, (False, None, None)),
        ({"thinking_token_budget": 9}, (None, None, 9)),
        ({"thinking_budget_tokens": 9}, (None, None, 9)),
        ({"reasoning_budget": 9}, (None, None, 9)),
        ({"reasoning_budget": 0}, (False, None, None)),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, (True, None, 9)),
        ({"thinking": {"type": "disabled"}}, (False, None, None)),
        ({"thinking": {"type": "adaptive"}}, (None, None, None)),
        ({"reasoning": {"effort": "low", "max_tokens": 9, "enabled": True}}, (True, "low", 9)),
        ({"reasoning": {"enabled": False}, "enable_thinking": False, "thinking_budget": 0}, (False, None, None)),
        ({"reasoning_effort": "low", "reasoning": {"effort": "low"}}, (None, "low", None)),
    ],
)
def test_every_word_has_its_meaning(fields, meant):
    assert thinking(**fields) == meant


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, "reasoning.effort"),
        ({"enable_thinking": True, "thinking": {"type": "disabled"}}, "thinking"),
        ({"thinking_budget": 1, "thinking_token_budget": 2}, "thinking_token_budget"),
        ({"thinking_token_budget": 1, "reasoning_budget": 2}, "reasoning_budget"),
        ({"reasoning_effort": "high", "enable_thinking": False}, "enable_thinking"),
        ({"thinking_budget": 5, "thinking": {"type": "disabled"}}, "thinking"),
    ],
)
def test_two_words_that_contradict_each_other_are_refused_by_name(fields, param):
    with pytest.raises(InvalidRequest) as refused:
        thinking(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("fields", "need", "param"),
    [
        ({"reasoning_effort": "low"}, Capability.REASONING_EFFORT, "reasoning_effort"),
        ({"reasoning": {"effort": "low"}}, Capability.REASONING_EFFORT, "reasoning.effort"),
        ({"enable_thinking": True}, Capability.REASONING, "enable_thinking"),
        ({"thinking": {"type": "enabled"}}, Capability.REASONING, "thinking"),
        ({"thinking_budget": 0, "reasoning": {"max_tokens": 0}}, None, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, Capability.REASONING_BUDGET, "thinking.budget_tokens"),
        ({"thinking_token_budget": 5}, Capability.REASONING_BUDGET, "thinking_token_budget"),
        ({"thinking_budget_tokens": 5}, Capability.REASONING_BUDGET, "thinking_budget_tokens"),
    ],
)
def test_a_model_that_cannot_refuses_the_word_by_name_and_takes_what_asks_for_nothing(fields, need, param):
    body = chat(**fields)
    if need is None:
        assert needs(asked(body)) <= needs(asked(chat()))
    else:
        assert missing(body, need) == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"reasoning_effort": "none"}, "reasoning_effort"), ({"thinking": {"type": "disabled"}}, "thinking")],
)
def test_a_model_that_cannot_but_think_refuses_the_word_by_name(fields, param):
    assert thinking_path(Capability.REASONING, chat(**fields)) == param


@pytest.mark.parametrize("word", ["enable_thinking", "thinking"])
def test_a_switch_of_the_template_that_is_off_needs_no_template_that_has_it(word):
    prompt = asked(chat(chat_template_kwargs={word: False, "style": "short"})).prompt
    assert (prompt.reasoning, prompt.template_arguments) == (False, {"style": "short"})
    with pytest.raises(InvalidRequest) as refused:
        thinking(chat_template_kwargs={word: False}, thinking_budget=5)
    assert refused.value.param == f"chat_template_kwargs.{word}"


@pytest.mark.parametrize("word", ["none", "minimal"])
def test_every_model_can_think_of_nothing(word):
    assert needs(asked(chat(reasoning_effort=word))) == needs(asked(chat()))
