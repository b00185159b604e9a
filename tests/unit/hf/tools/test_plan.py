import pytest

from gateway.engine import (
    Capability,
    Chat,
    Completion,
    GenerateRequest,
    Grammar,
    InvalidRequest,
    JsonObject,
    Message,
    Text,
    Tool,
    Unsupported,
)
from gateway_hf.tools.plan import AnswerPlan, begin_answer, callable_tools, capabilities_of, plan_answer
from tests.support.tiny_models import CHAT_TEMPLATE, make_tokenizer
from tests.support.tool_templates import TEMPLATES
from tests.unit.hf.conftest import codec

A, B = Tool("a"), Tool("b")
ASKED = (Message("user", (Text("Well?"),)),)
THINKS = CHAT_TEMPLATE + "{# </think> #}"
OPENS = CHAT_TEMPLATE.replace("assistant\n'", "assistant\n<think>\n'") + "{# </think> #}"
SWITCHED = THINKS + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
EFFORT = THINKS + "{{ reasoning_effort }}"
HARMONY = TEMPLATES["harmony"]


def text_of(template):
    tokenizer = make_tokenizer(begins=False, chats=True)
    tokenizer.chat_template = template
    return codec(tokenizer)


def plan(template=CHAT_TEMPLATE, *, constraint=None, prompt=None, **chat):
    text = text_of(template)
    prompt = prompt or Chat(ASKED, **chat)
    request = GenerateRequest(id="r", model="m", prompt=prompt, constraint=constraint)
    return begin_answer(text, plan_answer(text, request), prompt, text.encode(prompt))


def test_plain_text_costs_nothing():
    assert plan() == AnswerPlan()
    assert plan(prompt=Completion("Once")) == AnswerPlan()
    assert plan(tools=(A,), tool_choice="none", constraint=JsonObject()) == AnswerPlan(constraint=JsonObject())
    assert plan(THINKS, prompt=Completion("Once")).reading is None


def test_a_generic_call_is_always_held_to_its_form():
    found = plan(tools=(A,))
    assert (found.reading.calls.name, found.reading.is_held) == ("generic", True)
    assert isinstance(found.constraint, Grammar)
    assert found.is_of_tools


@pytest.mark.parametrize(
    ("asked", "is_held"),
    [
        ({}, False),
        ({"tool_choice": "required"}, True),
        ({"tool_choice": "a"}, True),
        ({"allowed_tools": ("a",)}, True),
        ({"parallel_tool_calls": False}, True),
        ({"tools": (Tool("a", strict=True),)}, True),
    ],
)
def test_a_model_that_calls_by_itself_is_held_where_more_is_asked(asked, is_held):
    found = plan(TEMPLATES["hermes"], **{"tools": (A,), **asked})
    assert (found.reading.is_held, found.is_of_tools, found.constraint is not None) == (is_held,) * 3


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, "ab"),
        ({"tool_choice": "required"}, "ab"),
        ({"tool_choice": "b"}, "b"),
        ({"tool_choice": "none"}, ""),
        ({"allowed_tools": ("a",)}, "a"),
        ({"allowed_tools": ("b",), "tool_choice": "required"}, "b"),
    ],
)
def test_what_may_be_called(asked, names):
    assert [tool.name for tool in callable_tools(Chat(ASKED, (A, B), **asked))] == list(names)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": (A, A)}, "tools"),
        ({"tools": (A,), "tool_choice": "c"}, "tool_choice"),
        ({"tools": (A,), "allowed_tools": ("c",)}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(asked, param):
    with pytest.raises(InvalidRequest) as refused:
        plan(**asked)
    assert refused.value.param == param


def test_a_thought_that_the_template_opens_is_known():
    assert plan(OPENS).reading.is_thinking
    assert not plan(THINKS).reading.is_thinking


@pytest.mark.parametrize(
    ("template", "asked", "after"),
    [
        (OPENS, {}, "</think>"),
        (THINKS, {}, None),
        (THINKS, {"reasoning": True}, "</think>"),
        (SWITCHED, {}, "</think>"),
        (SWITCHED, {"reasoning": False}, None),
        (SWITCHED, {"template_arguments": {"enable_thinking": False}}, None),
        (HARMONY, {}, "<|end|>"),
    ],
)
def test_a_constraint_begins_after_the_thought(template, asked, after):
    assert plan(template, constraint=JsonObject(), **asked).after == after


@pytest.mark.parametrize(("said", "thinks"), [("<think>So", True), ("<think>So</think>It", False), ("It", False)])
def test_an_answer_that_goes_on_may_go_on_thinking(said, thinks):
    talk = (*ASKED, Message("assistant", (Text(said),)))
    found = plan(THINKS.replace("'<|im_end|>'", "''"), prompt=Chat(talk, continue_final=True))
    assert found.reading.is_thinking is thinks


def test_thinking_is_switched_by_the_variables_of_the_template():
    text = text_of(SWITCHED)
    assert "</think>" not in text.render(Chat(ASKED))
    assert "</think>" not in text.render(Chat(ASKED, reasoning=True))
    assert "</think>" in text.render(Chat(ASKED, reasoning=False))
    assert text_of(EFFORT).render(Chat(ASKED, reasoning_effort="high")).endswith("high")


def test_an_effort_that_the_template_does_not_read_is_refused():
    with pytest.raises(Unsupported) as refused:
        text_of(THINKS).render(Chat(ASKED, reasoning_effort="minimal"))
    assert refused.value.param == "reasoning_effort"
    text_of(CHAT_TEMPLATE).render(Chat(ASKED, reasoning_effort="minimal"))  # hardly to think is what it does anyway


@pytest.mark.parametrize(
    ("template", "constrains", "found"),
    [
        (CHAT_TEMPLATE, False, set()),
        (CHAT_TEMPLATE, True, {Capability.TOOLS, Capability.PARALLEL_TOOL_CALLS}),
        (TEMPLATES["hermes"], False, {Capability.TOOLS}),
        (TEMPLATES["hermes"], True, {Capability.TOOLS, Capability.PARALLEL_TOOL_CALLS}),
        (THINKS, False, {Capability.REASONING}),
        (EFFORT, False, {Capability.REASONING, Capability.REASONING_EFFORT}),
    ],
)
def test_what_a_model_can_be_asked_for(template, constrains, found):
    assert capabilities_of(text_of(template), constrains=constrains) == found
