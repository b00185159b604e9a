"""What an answer with calls or thoughts is asked with, and what the chat endpoint would not do is refused by name."""

import pytest
from msgspec import structs

from gateway.engine import (
    Chat,
    Choice,
    GenerateRequest,
    InvalidRequest,
    JsonSchema,
    Message,
    Sampling,
    Text,
    Thought,
    Tool,
    ToolCall,
    ToolResult,
)
from gateway_llamacpp.conversations import check_form, has_form, to_chat_body, to_words

SAID = (Message("user", (Text("hello"),)),)
WEATHER, TIME = Tool("weather", "Tell it.", {"type": "object"}, strict=True), Tool("time")
CALLS = Chat(SAID, (WEATHER, TIME))


def test_a_plain_conversation_is_its_messages():
    assert to_words(Chat(SAID)) == {"messages": [{"role": "user", "content": "hello"}], "add_generation_prompt": True}


def test_calls_results_and_thoughts_are_told():
    call = Message("assistant", (Thought("hm"), ToolCall("1", "time", "{}")))
    result = Message("tool", (ToolResult("1", "noon"),))
    _, called, resulted = to_words(Chat((*SAID, call, result)))["messages"]
    assert called["tool_calls"][0]["function"] == {"name": "time", "arguments": "{}"}
    assert called["reasoning_content"] == "hm"
    assert resulted == {"role": "tool", "tool_call_id": "1", "content": "noon"}


def test_tools_are_told_where_one_may_be_called():
    assert [tool["function"]["name"] for tool in to_words(CALLS)["tools"]] == ["weather", "time"]
    assert to_words(CALLS)["tool_choice"] == "auto"
    named = to_words(structs.replace(CALLS, tool_choice="time", parallel_tool_calls=False))
    assert [tool["function"]["name"] for tool in named["tools"]] == ["time"]
    assert (named["tool_choice"], named["parallel_tool_calls"]) == ("required", False)
    assert "tools" not in to_words(structs.replace(CALLS, tool_choice="none"))


def test_how_an_answer_begins_is_told():
    assert to_words(Chat(SAID, continue_final=True))["continue_final_message"] is True
    assert to_words(Chat(SAID, generation_prompt=False))["add_generation_prompt"] is False
    words = to_words(Chat(SAID, reasoning=False, template_arguments={"tone": "calm"}))
    assert words["chat_template_kwargs"] == {"tone": "calm", "enable_thinking": False}


@pytest.mark.parametrize(
    ("chat", "thinks", "has"),
    [
        (Chat(SAID), False, False),
        (Chat(SAID), True, True),
        (Chat(SAID, reasoning=False), True, False),
        (CALLS, False, True),
        (structs.replace(CALLS, tool_choice="none"), False, False),
        (structs.replace(CALLS, tool_choice="none"), True, True),
        (structs.replace(CALLS, tool_choice="required"), False, False),
        (structs.replace(CALLS, tool_choice="time"), True, False),
    ],
)
def test_only_an_answer_that_may_call_or_think_has_a_form(chat, thinks, has):
    assert has_form(chat, thinks=thinks) is has


def request(chat, **fields):
    return GenerateRequest(id="r", model="m", prompt=chat, **fields)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (request(CALLS, sampling=Sampling(logprobs=0)), "logprobs"),
        (request(CALLS, sampling=Sampling(token_ids=True)), "token_ids"),
        (request(CALLS, sampling=Sampling(stop_token_ids=(1,))), "stop_token_ids"),
        (request(CALLS, sampling=Sampling(include_stop_str_in_output=True)), "include_stop_str_in_output"),
        (request(CALLS, truncate=3), "truncate_prompt_tokens"),
        (request(CALLS, constraint=JsonSchema({})), "tools"),
        (request(Chat(SAID, reasoning=True), constraint=Choice(("a",))), "reasoning"),
    ],
)
def test_what_the_chat_endpoint_would_not_do_is_refused_by_name(asked, param):
    with pytest.raises(InvalidRequest) as refusal:
        check_form(asked, 4)
    assert refusal.value.param == param


def test_what_asks_for_nothing_is_refused_nowhere():
    nothing = Sampling(token_ids=False, stop_token_ids=(), include_stop_str_in_output=False)
    check_form(request(CALLS, sampling=nothing, truncate=4), 4)
    check_form(request(Chat(SAID, reasoning=True), constraint=JsonSchema({})), 4)
    check_form(request(Chat(SAID), constraint=Choice(("a",))), 4)


def test_an_answer_is_streamed_with_its_usage_and_its_stops():
    body = to_chat_body({"messages": []}, {"n_predict": 3}, ("x",))
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert (body["n_predict"], body["stop"]) == (3, ("x",))
    assert "stop" not in to_chat_body({}, {}, None)
