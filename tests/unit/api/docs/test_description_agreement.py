"""The document and the service take the same bodies: every part of every body, bent in every way, against both."""

import copy
import json
from collections.abc import Iterator
from typing import get_type_hints

import msgspec
import pytest
from jsonschema import Draft202012Validator

from gateway.api.anthropic.schema import CountBody, MessagesBody
from gateway.api.native.schema import GenerateBody
from gateway.api.openai.schema import ChatCompletionBody, CompletionBody, CompletionChange
from gateway.api.responses.conversation_schema import ConversationChange, ItemsBody, NewConversation
from gateway.api.responses.schema import PromptBody, ResponsesBody
from gateway.api.routes import DIALECTS
from gateway.api.tokens.schema import DetokenizeBody, TemplateBody, TokenizeBody

DROP = object()
# What takes the place of each value; a fraction that is whole is one thing to JSON Schema and two to the decoder.
BENDS = (DROP, None, True, "", "x", -1, 0, 1, 0.5, 3, 10**10, [], ["x"], [1], [[]], [None], {}, {"type": "x"})
BENDS += ({"type": "text"}, {"text": "x"}, {"type": "text", "text": "x"})
CHOSEN = {"type": "function", "function": {"name": "f"}}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}, "strict": False}}]
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "index": 0}
TURNS = [
    {"role": "system", "content": "a"},
    {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,", "detail": "low"}}]},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "a"}], "tool_calls": [CALL], "refusal": "a"},
    {"role": "tool", "content": "a", "tool_call_id": "c"},
    {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}, "reasoning": "a"},
    {"role": "function", "content": "a", "name": "f"},
]
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [CHOSEN]}}
THINKING = {"thinking": {"type": "disabled", "budget_tokens": 0}, "reasoning": {"effort": "none", "max_tokens": 0}}
SHAPE = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "description": "d", "strict": True}}
SHAPES = {"json": {}, "json_object": True, "regex": "a", "choice": ["a"], "grammar": "g"}
BLOCKS = [
    {"type": "text", "text": "a", "citations": None},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"}},
    {"type": "image", "source": {"type": "url", "url": "https://x"}},
    {"type": "thinking", "thinking": "a", "signature": "s"},
    {"type": "redacted_thinking", "data": "a"},
    {"type": "tool_use", "id": "c", "name": "f", "input": {}},
    {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "a"}], "is_error": True},
]
ANTHROPIC = {
    "model": "m",
    "messages": [{"role": "user", "content": BLOCKS}, {"role": "user", "content": "a"}],
    "system": [{"type": "text", "text": "a", "cache_control": None}],
    "tools": [{"name": "f", "input_schema": {}, "description": "d", "type": "custom", "strict": False}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": False},
    "thinking": {"type": "enabled", "budget_tokens": 1_024},
    "output_config": {"format": {"type": "json_schema", "schema": {}}, "effort": "low"},
}
RESPONSE = {
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
        {"type": "function_call_output", "call_id": "c", "output": "a", "id": "i"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}], "content": []},
    ],
    "instructions": "a", "conversation": {"id": "c"}, "previous_response_id": "r", "metadata": {"a": "b"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}, "verbosity": "low"},
    "tools": [{"type": "function", "name": "f", "parameters": {}, "description": "d", "strict": False}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}], "name": "f"},
    "reasoning": {"effort": "low", "summary": "auto"}, "include": ["a"], "stream_options": {},
    "temperature": 0.5, "top_p": 0.5, "max_output_tokens": 3, "store": False, "background": False, "user": "u",
}  # fmt: skip
SAMPLING = {"temperature": 0.5, "top_p": 0.5, "logit_bias": {"1": 1}, "stop": ["a"], "stop_token_ids": [1], "seed": 1}
WHOLE = {
    GenerateBody: [{"prompt": "a"} | SAMPLING, {"messages": [{"role": "user", "content": "a"}]}],
    ChatCompletionBody: [
        {"messages": TURNS, "tools": TOOLS, "tool_choice": CHOSEN, "response_format": SHAPE, "metadata": {"a": "b"}}
        | SAMPLING
        | {"structured_outputs": SHAPES, "stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"messages": TURNS[:1], "functions": [TOOLS[0]["function"]], "function_call": {"name": "f"}} | THINKING,
        {"messages": TURNS[:1], "tools": TOOLS, "tool_choice": ALLOWED},
    ],
    CompletionChange: [{"metadata": {"a": "b"}}],
    CompletionBody: [{"prompt": ["a", [1]], "stop": "a"} | SAMPLING],
    MessagesBody: [ANTHROPIC | {"max_tokens": 3, "stop_sequences": ["a"], "metadata": {"user_id": "u"}}],
    CountBody: [ANTHROPIC],
    ResponsesBody: [RESPONSE, {"input": "a", "conversation": "c", "tool_choice": "auto"}],
    NewConversation: [{name: RESPONSE[at] for name, at in (("items", "input"), ("metadata", "metadata"))}],
    ConversationChange: [{"metadata": {"a": "b"}}],
    ItemsBody: [{"items": RESPONSE["input"]}],
    PromptBody: [{name: RESPONSE[name] for name in ("input", "text", "tools", "reasoning")}],
    TokenizeBody: [{"messages": TURNS, "tools": TOOLS, "chat_template_kwargs": {}}, {"prompt": "a"}, {"content": "a"}],
    DetokenizeBody: [{"tokens": [1]}],
    TemplateBody: [{"messages": TURNS, "tools": TOOLS}],
}


@pytest.fixture(scope="module")
def components():
    structs = [*WHOLE, *(struct for dialect in DIALECTS for struct in dialect.schemas)]
    return msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")[1]


def places(value, path=()) -> Iterator[tuple]:
    """List the paths to all parts of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*path, key)
        yield from places(part, (*path, key))


def bent(value, path, bend):
    """Put `bend` in the place of a part; of a list around that, only the item that has it is left."""
    whole = at = copy.copy(value)
    for key in path[:-1]:
        step = key
        if isinstance(at, list):
            at[:], step = [at[key]], 0  # the others are bent by themselves
        at[step] = copy.copy(at[step])
        at = at[step]
    if bend is DROP:
        del at[path[-1]]
    else:
        at[path[-1]] = bend
    return whole


def use(kind, name, part) -> tuple[str, int]:
    """Name a part and the type that a body takes it as."""
    field = kind.__struct_fields__[kind.__struct_encode_fields__.index(name)]
    return repr(get_type_hints(kind, include_extras=True)[field]), id(part)


# A body that another one shares a part with says nothing new of what is inside.
FIRST: dict[tuple[str, int], type] = {}
for each, bodies in WHOLE.items():
    for body in bodies:
        for field, value in body.items():
            FIRST.setdefault(use(each, field, value), each)


def variants(kind) -> Iterator[dict]:
    for whole in WHOLE[kind]:
        yield whole
        known = {name for name, part in whole.items() if FIRST[use(kind, name, part)] is not kind}
        for path in places(whole):
            for bend in BENDS if len(path) == 1 or path[0] not in known else ():
                yield bent(whole, path, bend)
    # A field that no example has is put into the shortest with each value as well.
    shortest = min(WHOLE[kind], key=lambda whole: len(json.dumps(whole)))
    for name in kind.__struct_encode_fields__:
        for bend in BENDS[1:] if not any(name in whole for whole in WHOLE[kind]) else ():
            yield shortest | {name: bend}


def is_decoded(body, decoder) -> bool:
    try:
        decoder.decode(json.dumps(body))
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("kind", WHOLE, ids=lambda kind: kind.__name__)
def test_the_document_and_the_service_take_the_same_bodies(components, kind):
    validator = Draft202012Validator(
        {"$ref": f"#/components/schemas/{kind.__name__}", "components": {"schemas": components}}
    )
    decoder = msgspec.json.Decoder(kind)
    assert all(is_decoded(whole, decoder) for whole in WHOLE[kind])
    differing = []
    for body in variants(kind):
        taken = is_decoded(body, decoder)
        if validator.is_valid(body) is not taken:
            differing.append((taken, body))
    assert differing == []


def test_every_struct_of_a_body_is_among_them():
    _, reached = msgspec.json.schema_components(list(WHOLE), ref_template="{name}")
    seen = {
        type(struct).__name__
        for kind, wholes in WHOLE.items()
        for whole in wholes
        for struct in structs_in(msgspec.json.decode(json.dumps(whole), type=kind))
    }
    assert seen == reached.keys()


def structs_in(value) -> Iterator[msgspec.Struct]:
    if isinstance(value, msgspec.Struct):
        yield value
        value = msgspec.structs.astuple(value)
    for part in value if isinstance(value, tuple) else ():
        yield from structs_in(part)
