"""What a request needs, less what the card lists, is nothing; or it is refused by name."""

import pytest
from msgspec import structs
from polyfactory.factories.msgspec_factory import MsgspecFactory

from gateway.engine import (
    Capability,
    Chat,
    Choice,
    Completion,
    GenerateRequest,
    Grammar,
    Image,
    JsonObject,
    JsonSchema,
    Message,
    ModelCard,
    Regex,
    Sampling,
    Text,
    Tokens,
    Tool,
    ToolCall,
    ToolResult,
    Unsupported,
    needs,
    negotiate,
)

HELLO = Completion("hello")
ASKED = {
    "max_tokens": 1,
    "max_length": 9,
    "min_tokens": 1,
    "temperature": 0.0,
    "top_p": 0.9,
    "top_k": 1,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "presence_penalty": -0.5,
    "frequency_penalty": 0.5,
    "logit_bias": {1: 2.0},
    "seed": 0,
    "stop": ("\n",),
    "stop_token_ids": (2,),
    "include_stop_str_in_output": True,
    "allowed_token_ids": (3,),
    "bad_words": ("no",),
    "token_ids": True,
    "ignore_eos": True,
    "logprobs": 0,
    "prompt_logprobs": 0,
}
NEUTRAL = {
    "min_tokens": 0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "logit_bias": {},
    "stop": (),
    "stop_token_ids": (),
    "include_stop_str_in_output": False,
    "bad_words": (),
    "token_ids": False,
    "ignore_eos": False,
}


class Requests(MsgspecFactory[GenerateRequest]):
    """Requests of every shape."""

    __random_seed__ = 11


def request(prompt=HELLO, constraint=None, **sampling):
    return GenerateRequest(id="1", model="m", prompt=prompt, constraint=constraint, sampling=Sampling(**sampling))


def card(*capabilities):
    return ModelCard(name="m", context_window=8, capabilities=frozenset(capabilities))


def test_every_sampling_field_is_tried_here():
    assert set(ASKED) == set(Sampling.__struct_fields__)


@pytest.mark.parametrize("field", Sampling.__struct_fields__)
def test_a_sampling_field_needs_the_capability_of_its_name(field):
    assert needs(request(**{field: ASKED[field]})) == {Capability.COMPLETION, Capability(field)}


@pytest.mark.parametrize("field", NEUTRAL)
def test_a_neutral_value_needs_nothing(field):
    assert needs(request(**{field: NEUTRAL[field]})) == {Capability.COMPLETION}


def test_a_bare_request_needs_only_its_kind_of_prompt():
    assert needs(request()) == {Capability.COMPLETION}
    assert needs(request(Tokens((1,)))) == {Capability.TOKENS}
    assert needs(request(Chat((Message("user", (Text("hi"),)),)))) == {Capability.CHAT}


@pytest.mark.parametrize(
    ("constraint", "capability"),
    [
        (JsonSchema({"type": "object"}), Capability.JSON_SCHEMA),
        (JsonObject(), Capability.JSON_OBJECT),
        (Regex("a+"), Capability.REGEX),
        (Choice(("yes", "no")), Capability.CHOICE),
        (Grammar('root ::= "a"'), Capability.GRAMMAR),
    ],
)
def test_a_constraint_needs_the_capability_of_its_kind(constraint, capability):
    assert needs(request(constraint=constraint)) == {Capability.COMPLETION, capability}


def test_an_image_anywhere_needs_vision():
    turns = (Message("user", (Text("hi"),)), Message("user", (Text("see"), Image(b"", "image/png"))))
    assert needs(request(Chat(turns))) == {Capability.CHAT, Capability.VISION}


def test_offered_tools_need_tools():
    assert needs(request(Chat((), tools=(Tool("weather"),)))) == {Capability.CHAT, Capability.TOOLS}


@pytest.mark.parametrize("part", [ToolCall("1", "weather", "{}"), ToolResult("1", "sunny")])
def test_a_call_in_the_conversation_needs_tools_also_where_none_are_offered(part):
    assert Capability.TOOLS in needs(request(Chat((Message("user", (part,)),))))


@pytest.mark.parametrize(
    ("asked", "capability"),
    [
        ({"parallel_tool_calls": False, "tools": (Tool("weather"),)}, Capability.PARALLEL_TOOL_CALLS),
        ({"reasoning": True}, Capability.REASONING),
        ({"reasoning_effort": "low"}, Capability.REASONING_EFFORT),
        ({"reasoning_budget": 1}, Capability.REASONING_BUDGET),
    ],
)
def test_what_is_asked_of_calls_and_thoughts_has_its_capability(asked, capability):
    assert needs(request(Chat((), **asked))) - {Capability.TOOLS} == {Capability.CHAT, capability}


def test_a_model_that_cannot_think_can_be_told_not_to():
    neutral = Chat((), reasoning=False, reasoning_effort="minimal", reasoning_budget=0, parallel_tool_calls=False)
    assert needs(request(neutral)) == {Capability.CHAT}


def test_a_card_that_lists_everything_takes_every_request():
    for varied in Requests.batch(200):
        negotiate(varied, card(*Capability))


def test_a_card_that_lists_just_what_is_needed_is_enough_and_one_less_is_not():
    for varied in Requests.batch(200):
        needed = needs(varied)
        negotiate(varied, card(*needed))
        for missing in needed:
            with pytest.raises(Unsupported, match=missing) as refused:
                negotiate(varied, card(*(needed - {missing})))
            assert refused.value.param == missing


def test_a_refusal_names_the_model_and_all_that_is_missing():
    with pytest.raises(Unsupported, match=r"'m' does not support min_p, seed$") as refused:
        negotiate(request(seed=1, min_p=0.1), card(Capability.COMPLETION))
    assert refused.value.param == "min_p"


def test_to_stand_by_is_asked_of_an_engine_that_can():
    assert needs(structs.replace(request(), standby=0.0)) == {Capability.COMPLETION, Capability.STANDBY}


def test_the_side_on_which_a_prompt_is_cut_counts_only_where_it_is_cut():
    cut = structs.replace(request(), truncate=5)
    assert needs(cut) == {Capability.COMPLETION, Capability.TOKENIZE}
    right = structs.replace(cut, truncation_side="right")
    assert needs(right) == {Capability.COMPLETION, Capability.TOKENIZE, Capability.TRUNCATION_SIDE}
    assert needs(structs.replace(right, truncate=None)) == {Capability.COMPLETION}
