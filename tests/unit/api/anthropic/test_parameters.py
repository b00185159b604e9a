"""The table of Anthropic's parameters: each changes what is asked or answered, or is refused by its name."""

import msgspec
import pytest
from msgspec import structs

from gateway.api.anthropic.dialect import DIALECT
from gateway.api.anthropic.parameters import NEEDS, REFUSED, TAKEN, sort_out
from gateway.api.anthropic.schema import CountBody, MessagesBody, count_decoder, messages_decoder
from gateway.api.anthropic.translate import reword, to_prompt, to_request
from gateway.api.exchange.dialect import ParameterTables
from gateway.api.models.controller import to_parameters
from gateway.engine import Capability, ContextTooLong, JsonSchema, Message, ModelCard, Text, Unsupported, negotiate

ABLE = ModelCard(name="m", context_window=100, capabilities=frozenset(Capability))
USER = {"role": "user", "content": "hi"}
BEGUN = [USER, {"role": "assistant", "content": "I"}]
TOOL = {"name": "f", "input_schema": {"type": "object"}}
ALONE = {"type": "auto", "disable_parallel_tool_use": True}
CALLING = {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]}
USED = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c"}]}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"}}
SHAPE = {"format": {"type": "json_schema", "schema": {"type": "object"}}}

# What a field asks of the engine: where in the request, and what is there.
REACHING = {
    "model": ("m2", "model", "m2"),
    "max_tokens": (7, "sampling.max_tokens", 7),
    "temperature": (0.5, "sampling.temperature", 0.5),
    "top_p": (0.5, "sampling.top_p", 0.5),
    "top_k": (5, "sampling.top_k", 5),
    "stop_sequences": (["x"], "sampling.stop", ("x",)),
    "messages": (BEGUN, "prompt.continue_final", True),
    "system": ("s", "prompt.messages", (Message("system", (Text("s"),)), Message("user", (Text("hi"),)))),
    "output_config": (SHAPE, "constraint", JsonSchema({"type": "object"})),
    "output_format": (SHAPE["format"], "constraint", JsonSchema({"type": "object"})),
}
# Values that ask for something of what nobody here does.
ASKING = {
    "compaction": {"type": "auto"},
    "container": "c",
    "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
    "diagnostics": {"previous_message_id": "m"},
    "fallbacks": [{"model": "n"}],
    "inference_geo": "eu",
    "mcp_servers": [{"type": "url", "url": "https://example.com", "name": "n"}],
    "speed": "fast",
    "thread": {"id": "t"},
}
WITHOUT_EFFECT = {
    "cache_control": {"type": "ephemeral"},
    "metadata": {"user_id": "u"},
    "service_tier": "standard_only",
    "user_profile_id": "u",
    "workspace_id": "w",
}
# Tested in the transcripts, and through the SDK.
ELSEWHERE = {"stream", "tools", "tool_choice", "thinking"}


def decode(**fields):
    return messages_decoder.decode(msgspec.json.encode({"model": "m", "max_tokens": 5, "messages": [USER]} | fields))


def asked(**fields):
    return to_request(decode(**fields), "1")


def asking(path, value):
    """Make the field of a body whose part at `path` has a value."""
    name, _, part = path.partition(".")
    if not part:
        return {name: value}
    return {name: {part: value}}


def find(request, path):
    for name in path.split("."):
        request = getattr(request, name)
    return request


def test_every_parameter_is_in_a_test():
    refused = {path.partition(".")[0] for path in REFUSED}
    assert {*REACHING, *refused, *TAKEN, *ELSEWHERE} == set(MessagesBody.__struct_fields__)
    assert set(CountBody.__struct_fields__) <= set(MessagesBody.__struct_fields__)
    assert ASKING.keys() == REFUSED.keys()
    assert WITHOUT_EFFECT.keys() == TAKEN


@pytest.mark.parametrize("field", REACHING)
def test_a_parameter_reaches_the_engine(field):
    value, path, wanted = REACHING[field]
    assert find(asked(), path) != wanted
    assert find(asked(**{field: value}), path) == wanted


def test_what_is_left_out_is_left_to_the_model():
    sampling = asked().sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.stop) == (None, None, None, None)
    assert asked().defaults == structs.replace(asked().defaults, temperature=None)


@pytest.mark.parametrize("path", REFUSED)
def test_what_nobody_does_is_refused_by_its_name(path):
    with pytest.raises(Unsupported, match=path) as refused:
        asked(**asking(path, ASKING[path]))
    assert refused.value.param == path


@pytest.mark.parametrize("path", [path for path in REFUSED if path in CountBody.__struct_fields__])
def test_it_is_refused_where_tokens_are_counted_as_well(path):
    body = count_decoder.decode(msgspec.json.encode({"model": "m", "messages": [USER], path: ASKING[path]}))
    with pytest.raises(Unsupported, match=path):
        to_prompt(body)


@pytest.mark.parametrize("path", REFUSED)
def test_it_may_be_asked_for_nothing(path):
    for value in (None, *REFUSED[path]):
        assert asked(**asking(path, value)) == asked()


@pytest.mark.parametrize("field", sorted(TAKEN))
def test_what_is_taken_changes_nothing(field):
    assert asked(**{field: WITHOUT_EFFECT[field]}) == asked()


@pytest.mark.parametrize(
    ("fields", "need", "param"),
    [
        ({}, Capability.CHAT, "messages"),
        ({"messages": BEGUN}, Capability.CONTINUE_FINAL, "messages"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, Capability.VISION, "messages[0].content[0]"),
        ({}, Capability.MAX_TOKENS, "max_tokens"),
        ({"temperature": 0}, Capability.TEMPERATURE, "temperature"),
        ({"top_p": 0.5}, Capability.TOP_P, "top_p"),
        ({"top_k": 5}, Capability.TOP_K, "top_k"),
        ({"stop_sequences": ["a"]}, Capability.STOP, "stop_sequences"),
        ({"tools": [TOOL]}, Capability.TOOLS, "tools"),
        ({"output_config": SHAPE}, Capability.JSON_SCHEMA, "output_config.format"),
        ({"messages": [CALLING, USED]}, Capability.TOOLS, "messages[0].content[0]"),
        (
            {"tools": [TOOL], "tool_choice": ALONE},
            Capability.PARALLEL_TOOL_CALLS,
            "tool_choice.disable_parallel_tool_use",
        ),
        ({"thinking": {"type": "enabled"}}, Capability.REASONING, "thinking"),
        ({"thinking": {"type": "enabled", "budget_tokens": 4}}, Capability.REASONING_BUDGET, "thinking.budget_tokens"),
        ({"output_config": {"effort": "low"}}, Capability.REASONING_EFFORT, "output_config.effort"),
    ],
)
def test_a_model_that_cannot_do_it_refuses_it_by_its_name(fields, need, param):
    body = decode(**fields)
    card = structs.replace(ABLE, capabilities=ABLE.capabilities - {need})
    with pytest.raises(Unsupported) as refused:
        negotiate(to_request(body, "1"), card)
    reword(refused.value, body)
    assert refused.value.param == param
    negotiate(to_request(body, "1"), ABLE)


def test_a_prompt_that_is_too_long_is_said_in_anthropics_words():
    error = ContextTooLong("9 tokens too many")
    reword(error, decode())
    assert (error.message, error.param) == ("prompt is too long: 9 tokens too many", "messages")


def test_the_table_that_is_shown_says_for_every_parameter_what_becomes_of_it():
    shown = to_parameters(ABLE, ParameterTables([DIALECT])).routes["messages"]
    listed = [*shown.honoured, *shown.taken, *shown.refused]
    assert len(listed) == len(set(listed))
    assert {path.partition(".")[0] for path in listed} == set(MessagesBody.__struct_fields__)
    dull = sort_out(structs.replace(ABLE, capabilities=frozenset({Capability.CHAT})))
    assert set(dull.honoured) == {"model", "messages", "system", "stream"}
    assert set(dull.taken) == TAKEN
    assert set(dull.refused) == {*REFUSED, *NEEDS} - {"messages"}
