"""Every word of OpenAI's Responses API is honoured, taken without effect, or refused by its name.

The words are those of the installed SDK: one that a new version of it adds is in no table here, and fails.
"""

import typing

import msgspec
import pytest
from openai.types.responses import (
    response_create_params,
    response_includable,
    response_input_item_param,
    tool_choice_types_param,
    tool_param,
)

from gateway.api.exchange.asked import Asking
from gateway.api.responses.begin import to_response
from gateway.api.responses.keeper import to_keeper
from gateway.api.responses.parameters import sort_out
from gateway.api.responses.schema import responses_decoder
from gateway.api.responses.translate import to_prompts
from gateway.config import Config
from gateway.engine import Capability, EngineError, ModelCard, Unsupported

CARD = ModelCard(name="m", context_window=100, capabilities=frozenset(Capability))
ULID = "01KDVXK0M4Q2E6S9ZB3H7TJN5R"
SCORES = "message.output_text.logprobs"
SEALED = "reasoning.encrypted_content"
TOOLS = [{"type": "function", "name": "f"}]

# What changes the request to the engine, with what has to stand beside it.
COMPUTED = {
    "include": {"include": [SCORES]},
    "input": {"input": "other"},
    "instructions": {"instructions": "Be brief."},
    "max_output_tokens": {"max_output_tokens": 7},
    "model": {"model": "other"},
    "parallel_tool_calls": {"tools": TOOLS, "parallel_tool_calls": False},
    "reasoning": {"reasoning": {"effort": "low"}},
    "temperature": {"temperature": 0.5},
    "text": {"text": {"format": {"type": "json_object"}}},
    "tool_choice": {"tools": TOOLS, "tool_choice": "required"},
    "tools": {"tools": TOOLS},
    "top_logprobs": {"top_logprobs": 2},
    "top_p": {"top_p": 0.5},
    "truncation": {"truncation": "auto"},
}
# What changes how the answer is kept or what it goes on from.
KEPT = {
    "background": {"background": True},
    "conversation": {"conversation": "conv_1"},
    "metadata": {"metadata": {"a": "b"}},
    "previous_response_id": {"previous_response_id": "resp_1"},
    "store": {"store": False},
}
TAKEN = {
    "max_tool_calls": 3,
    "prompt_cache_key": "k",
    "safety_identifier": "s",
    "service_tier": "flex",
    "user": "u",
}
REFUSED = {
    "access_programs": [{"id": "p"}],
    "background_options": {"x": 1},
    "context_management": [{"type": "compaction"}],
    "image": {"x": 1},
    "moderation": {"model": "m"},
    "prompt": {"id": "p"},
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h",
    "stream_options": {"include_obfuscation": True},
}
# Looked up in the store before the input is translated.
REFERENCE = "item_reference"


def decoded(**fields):
    return responses_decoder.decode(msgspec.json.encode({"input": "hi"} | fields))


def asked(**fields):
    return to_prompts(decoded(**fields), Asking(CARD, Config(), ULID, 0))


def kept(**fields):
    """Say how an answer begins, and whether it is stored or looked up."""
    body = decoded(**fields)
    return to_response(body, CARD, ULID), to_keeper(body, ULID, None) is None


def refused(**fields):
    with pytest.raises(EngineError) as raised:
        asked(**fields)
    return raised.value


def types_of(union):
    """List the values of `type` in a union of typed dictionaries."""
    for each in typing.get_args(union):
        found = typing.get_type_hints(each)["type"]
        literals = [part for part in (found, *typing.get_args(found)) if typing.get_origin(part) is typing.Literal]
        yield from (value for literal in literals for value in typing.get_args(literal))


def test_every_parameter_of_the_sdk_is_in_one_table():
    tables = [*COMPUTED, *KEPT, *TAKEN, *REFUSED]
    assert sorted(tables) == sorted(typing.get_type_hints(response_create_params.ResponseCreateParamsBase))
    assert set(tables) | {"stream"} == {field.name for field in msgspec.structs.fields(responses_decoder.type)}


@pytest.mark.parametrize("field", COMPUTED)
def test_what_is_computed_reaches_the_engine(field):
    fields = COMPUTED[field]
    without = {name: value for name, value in fields.items() if name != field}
    assert asked(**fields) != asked(**without)


@pytest.mark.parametrize("field", KEPT)
def test_what_is_kept_is_told_in_the_answer_or_stored_with_it(field):
    assert kept(**KEPT[field]) != kept()


@pytest.mark.parametrize("field", TAKEN)
def test_what_is_taken_changes_nothing_that_is_computed(field):
    assert asked(**{field: TAKEN[field]}) == asked()
    assert any(path.partition(".")[0] == field for path in sort_out(CARD).taken)


@pytest.mark.parametrize("field", REFUSED)
def test_what_is_refused_is_named(field):
    error = refused(**{field: REFUSED[field]})
    assert isinstance(error, Unsupported)
    assert error.param.partition(".")[0] == field


def test_every_part_of_an_answer_that_may_be_included_is_told_or_named():
    included = typing.get_args(response_includable.ResponseIncludable)
    assert {SCORES, SEALED} <= set(included)
    for name in included:
        if name == SEALED:
            assert asked(include=[name]) == asked()  # what it tells is in test_render
            continue
        if name == SCORES:
            assert asked(include=[name]).requests[0].sampling.logprobs == 0
            continue
        error = refused(include=[name])
        assert (type(error), error.param) == (Unsupported, "include[0]")
        assert name in error.message


def test_every_kind_of_item_is_understood_or_named():
    kinds = set(types_of(response_input_item_param.ResponseInputItemParam))
    call = {"call_id": "c", "name": "f", "arguments": "{}"}
    known = {
        "message": {"role": "user", "content": "hi"},
        "reasoning": {"content": [{"type": "reasoning_text", "text": "hm"}]},
        "function_call": call,
        "function_call_output": {"call_id": "c", "output": "18"},
    }
    assert {*known, REFERENCE} <= kinds
    asked(input=[{"type": kind} | fields for kind, fields in known.items()])
    for kind in kinds - {*known, REFERENCE}:
        error = refused(input=[{"type": kind} | call])
        assert (type(error), error.param) == (Unsupported, "input[0].type"), kind
        assert repr(kind) in error.message


def test_every_kind_of_tool_but_functions_is_named():
    kinds = set(types_of(tool_param.ToolParam))
    assert "function" in kinds
    for kind in kinds - {"function"}:
        error = refused(tools=[{"type": kind, "name": "f"}])
        assert (type(error), error.param) == (Unsupported, "tools[0].type"), kind


def test_no_tool_of_a_server_can_be_chosen():
    chosen = typing.get_type_hints(tool_choice_types_param.ToolChoiceTypesParam)["type"]
    for kind in typing.get_args(chosen):
        error = refused(tools=TOOLS, tool_choice={"type": kind})
        assert (type(error), error.param) == (Unsupported, "tool_choice.type"), kind
