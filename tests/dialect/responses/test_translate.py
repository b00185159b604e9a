"""What a body of `/v1/responses` asks of an engine."""

import msgspec
import pytest

from gateway.api.exchange.asked import Asking
from gateway.api.responses.schema import responses_decoder
from gateway.api.responses.sealed import seal
from gateway.api.responses.translate import reword, to_prompts
from gateway.config import Config
from gateway.engine import (
    Capability,
    Chat,
    ContextTooLong,
    InvalidRequest,
    JsonObject,
    JsonSchema,
    Message,
    ModelCard,
    Sampling,
    Text,
    Thought,
    Tool,
    ToolCall,
    ToolResult,
    Unsupported,
)

CARD = ModelCard(name="m", context_window=100, capabilities=frozenset(Capability))
PAST = (Message("user", (Text("before"),)), Message("assistant", (Text("yes"),)))
USER = {"role": "user", "content": "hi"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc_1", "status": "completed"}
TOOL = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}


def decoded(fields):
    return responses_decoder.decode(msgspec.json.encode({"input": "hi"} | fields))


def asked(past=(), **fields):
    (request,) = to_prompts(decoded(fields), Asking(CARD, Config(), "1", 0, past)).requests
    return request


def said(*items, **fields):
    return asked(input=items, **fields).prompt.messages


def test_a_text_is_the_users():
    request = asked()
    assert request.prompt == Chat((Message("user", (Text("hi"),)),))
    assert (request.id, request.model, request.sampling) == ("1", "m", Sampling())


@pytest.mark.parametrize("items", [[], [{"type": "reasoning", "id": "rs_1", "summary": []}]], ids=["none", "a thought"])
def test_an_input_that_says_nothing_is_refused(items):
    with pytest.raises(InvalidRequest, match="says nothing") as refused:
        asked(input=items)
    assert refused.value.param == "input"
    assert asked(input=items, instructions="Be brief.").prompt.messages == (Message("system", (Text("Be brief."),)),)


def test_instructions_come_first_and_what_was_said_before_comes_next():
    messages = asked(PAST, instructions="Be brief.").prompt.messages
    assert messages == (Message("system", (Text("Be brief."),)), *PAST, Message("user", (Text("hi"),)))


def test_an_input_may_be_left_out_where_there_was_something_before():
    assert asked(PAST, input=None).prompt.messages == PAST
    with pytest.raises(InvalidRequest) as refused:
        asked(input=None, instructions="Be brief.")
    assert refused.value.param == "input"


def test_parts_are_texts_and_a_developer_is_the_system():
    parts = [{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b", "annotations": []}]
    parts.append({"type": "refusal", "refusal": "no"})
    messages = said({"role": "developer", "content": "x"}, {"type": "message", "role": "user", "content": parts})
    assert messages == (Message("system", (Text("x"),)), Message("user", (Text("a"), Text("b"), Text("no"))))


def test_a_message_of_the_assistant_and_its_calls_are_one_turn():
    result = {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "18"}]}
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    messages = said(USER, thought, {"role": "assistant", "content": "wait"}, CALL, result, USER, USER)
    user = Message("user", (Text("hi"),))
    turn = Message("assistant", (Thought("hm"), Text("wait"), ToolCall("c", "f", "{}")))
    assert messages == (user, turn, Message("tool", (ToolResult("c", "18"),)), user, user)


def test_a_thought_is_what_there_is_of_it_and_no_turn_by_itself():
    summary = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "a"}]}
    sealed = {"type": "reasoning", "summary": [], "encrypted_content": "x"}
    user, yes = Message("user", (Text("hi"),)), {"role": "assistant", "content": "yes"}
    assert said(USER, summary, yes) == (user, Message("assistant", (Thought("a"), Text("yes"))))
    assert said(USER, sealed, yes) == (user, Message("assistant", (Text("yes"),)))
    assert said(USER, summary) == said(USER, sealed, USER)[:1] == (user,)


def test_a_thought_that_was_sealed_here_is_the_thought():
    told = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    sealed = {name: value for name, value in told.items() if name != "content"} | {"encrypted_content": seal("hm")}
    answer, question = {"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}
    expected = asked(input=[question, told, answer, question])
    in_short = [{"type": "summary_text", "text": "in short"}]
    for item in (sealed, told | sealed, sealed | {"content": None}, sealed | {"content": []}):
        for summary in ([], in_short):
            assert asked(input=[question, item | {"summary": summary}, answer, question]) == expected
    for wrong in (told | {"encrypted_content": seal("ha")}, told | {"encrypted_content": seal("hm")[:-4]}):
        with pytest.raises(InvalidRequest) as refused:
            asked(input=[question, wrong, answer, question])
        assert refused.value.param == "input[1].encrypted_content"
    elsewhere = told | {"encrypted_content": "gAAAAABo"}
    assert asked(input=[question, elsewhere, answer, question]) == expected


def test_a_result_may_answer_a_call_of_before():
    past = (*PAST, Message("assistant", (ToolCall("c", "f", "{}"),)))
    result = {"type": "function_call_output", "call_id": "c", "output": "18"}
    assert asked(past, input=[result]).prompt.messages == (*past, Message("tool", (ToolResult("c", "18"),)))
    for wrong in ([result | {"call_id": "d"}], [USER, result], [result, result]):
        with pytest.raises(InvalidRequest) as refused:
            asked(past, input=wrong)
        assert refused.value.param == "input"


def test_sampling_and_shapes():
    request = asked(temperature=0.5, top_p=0.9, max_output_tokens=7, text={"format": {"type": "json_object"}})
    assert request.sampling == Sampling(temperature=0.5, top_p=0.9, max_tokens=7)
    assert request.constraint == JsonObject()
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    assert asked(text={"format": schema}).constraint == JsonSchema({"type": "object"})
    assert asked(text={"format": {"type": "text"}, "verbosity": "medium"}).constraint is None


def test_tools_and_their_choice():
    prompt = asked(tools=[TOOL | {"strict": True}], parallel_tool_calls=False).prompt
    assert prompt.tools == (Tool("f", "d", {"type": "object"}, strict=True),)
    assert (prompt.tool_choice, prompt.parallel_tool_calls) == ("auto", False)
    assert asked(tools=[TOOL], tool_choice="required").prompt.tool_choice == "required"
    assert asked(tools=[TOOL], tool_choice={"type": "function", "name": "f"}).prompt.tool_choice == "f"
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}
    prompt = asked(tools=[TOOL], tool_choice=allowed).prompt
    assert (prompt.tool_choice, prompt.allowed_tools) == ("auto", ("f",))
    assert asked(tools=[TOOL], tool_choice=allowed | {"mode": "required"}).prompt.tool_choice == "f"


def test_reasoning():
    assert asked(reasoning={"effort": "none"}).prompt.reasoning is False
    prompt = asked(reasoning={"effort": "low", "summary": "auto"}).prompt
    assert (prompt.reasoning, prompt.reasoning_effort) == (None, "low")


REFUSED = {
    "include[1]": {"include": ["reasoning.encrypted_content", "file_search_call.results"]},
    "input[1].type": {"input": [USER, {"type": "computer_call"}]},
    "input[0].content[1]": {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image"}]}]
    },
    "moderation": {"moderation": {"model": "x"}},
    "prompt": {"prompt": {"id": "p"}},
    "reasoning.summary": {"reasoning": {"summary": "detailed"}},
    "stream_options.include_obfuscation": {"stream_options": {"include_obfuscation": True}},
    "text.verbosity": {"text": {"verbosity": "low"}},
    "tool_choice.type": {"tools": [TOOL], "tool_choice": {"type": "web_search"}},
    "tools[1].type": {"tools": [TOOL, {"type": "web_search"}]},
}
CONTRADICTIONS = {
    "background": {"background": True, "store": False},
    "conversation": {"conversation": "c", "previous_response_id": "r"},
    "input[0].role": {"input": [{"content": "a"}]},
    "input[0].content": {"input": [{"role": "user", "content": []}]},
    "input[0].content[0].text": {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
    "input[0].call_id": {"input": [{"type": "function_call_output", "output": "x"}]},
    "input[0].output": {"input": [{"type": "function_call_output", "call_id": "c"}]},
    "input[0].arguments": {"input": [{"type": "function_call", "call_id": "c", "name": "f"}]},
    "text.format.schema": {"text": {"format": {"type": "json_schema", "name": "n"}}},
    "tool_choice": {"tool_choice": "required"},
    "tool_choice.name": {"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}},
    "tool_choice.tools[0]": {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "tools": [{"name": "g"}]}},
    "tools[0].name": {"tools": [{"type": "function"}]},
    "tools[1].name": {"tools": [TOOL, TOOL]},
    "tools[0].parameters.type": {"tools": [TOOL | {"parameters": {"type": "string"}}]},
}


@pytest.mark.parametrize("param", REFUSED)
def test_what_is_not_done_is_refused_by_its_name(param):
    with pytest.raises(Unsupported) as refused:
        asked(**REFUSED[param])
    assert refused.value.param == param


@pytest.mark.parametrize("param", CONTRADICTIONS)
def test_a_contradiction_is_refused_by_its_path(param):
    with pytest.raises(InvalidRequest) as refused:
        asked(**CONTRADICTIONS[param])
    assert refused.value.param == param


def test_values_that_ask_for_nothing_are_taken():
    asked(
        truncation="disabled", top_logprobs=0, text={"verbosity": "medium"}, reasoning={"effort": None}, tools=[],
        stream_options={"include_obfuscation": False}, user="u", service_tier="auto", max_tool_calls=1,
        prompt_cache_retention="in_memory", include=[], tool_choice="auto", store=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "fields", "param"),
    [
        (Unsupported("x", param="tools"), {"tools": [TOOL]}, "tools"),
        (Unsupported("x", param="tools"), {"input": [USER, CALL]}, "input"),
        (Unsupported("x", param="json_schema"), {}, "text.format"),
        (InvalidRequest("x", param="json_schema"), {}, "text.format.schema"),
        (Unsupported("x", param="parallel_tool_calls"), {}, "parallel_tool_calls"),
        (Unsupported("x", param="reasoning_effort"), {}, "reasoning.effort"),
        (Unsupported("x", param="chat"), {}, "input"),
        (InvalidRequest("max_tokens is too much", param="max_tokens"), {}, "max_output_tokens"),
        (ContextTooLong("5 too many"), {}, "input"),
    ],
)
def test_an_error_of_an_engine_names_the_field_of_this_body(error, fields, param):
    reword(error, decoded(fields))
    assert error.param == param
    assert "max_tokens" not in error.message
