import pytest

from gateway.engine import Image, InvalidRequest, Message, Text, Thought, ToolCall, ToolResult, Unsupported
from tests.support.openai_dialect import QUESTION, asked, chat

CALL = {"id": "c0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
OLD = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}


def turns(*messages):
    return asked(chat(messages=list(messages))).prompt.messages


def picture(url):
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


def test_a_conversation_with_a_call_and_its_result():
    assert turns(
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {
            "role": "tool",
            "tool_call_id": "c0",
            "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}],
        },
        {"role": "assistant", "refusal": "I cannot."},
    ) == (
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("a"), Text("b"))),
        Message("assistant", (ToolCall("c0", "f", "{}"),)),
        Message("tool", (ToolResult("c0", "12"),)),
        Message("assistant", (Text("I cannot."),)),
    )


@pytest.mark.parametrize(
    ("others", "param"),
    [
        ([QUESTION[0]], "messages[1]"),
        ([{"role": "tool", "content": "a", "tool_call_id": "c1"}], "messages[1].tool_call_id"),
        ([{"role": "tool", "content": "a", "tool_call_id": "c0"}] * 2, "messages[2].tool_call_id"),
        ([CALLING | {"tool_calls": [CALL | {"id": "c1"}]}], "messages[1]"),
    ],
)
def test_each_call_has_its_one_result_before_the_next_turn(others, param):
    with pytest.raises(InvalidRequest) as refused:
        turns(CALLING, *others)
    assert refused.value.param == param


def test_a_conversation_may_end_with_a_call_and_use_its_id_again_later():
    result = {"role": "tool", "tool_call_id": "c0", "content": "1"}
    told = turns(CALLING, result, CALLING)
    assert [turn.role for turn in told] == ["assistant", "tool", "assistant"]


def test_a_function_is_a_tool_and_its_call_gets_an_id():
    assert turns(QUESTION[0], OLD, {"role": "function", "name": "f", "content": "1"})[1:] == (
        Message("assistant", (ToolCall("call_1", "f", "{}"),)),
        Message("tool", (ToolResult("call_1", "1"),)),
    )


@pytest.mark.parametrize("word", ["reasoning", "reasoning_content"])
def test_a_thought_is_sent_back_before_what_was_said(word):
    said = {"role": "assistant", "content": "a", word: "hm"}
    assert turns(said) == (Message("assistant", (Thought("hm"), Text("a"))),)
    assert turns(said | {"role": "user"}) == (Message("user", (Text("a"),)),)


def test_an_empty_text_is_a_text():
    assert turns({"role": "user", "content": ""}) == (Message("user", (Text(""),)),)


def test_an_image_comes_with_its_bytes():
    assert turns(picture("data:image/png;base64,iVBORw=="))[0].parts == (Image(b"\x89PNG", "image/png"),)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": []}, "messages[1].content"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text"),
        ({"role": "assistant", "content": [{"type": "refusal"}]}, "messages[1].content[0].refusal"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[1].content[0].image_url"),
        ({"role": "user", "content": "a", "tool_calls": [CALL]}, "messages[1].tool_calls"),
        ({"role": "tool", "content": "a"}, "messages[1].tool_call_id"),
        ({"role": "user", "content": "a", "function_call": CALL["function"]}, "messages[1].function_call"),
        (CALLING | {"function_call": CALL["function"]}, "messages[1].function_call"),
        (CALLING | {"tool_calls": [CALL, CALL]}, "messages[1].tool_calls[1].id"),
        ({"role": "tool", "content": "a", "tool_call_id": "c0"}, "messages[1].tool_call_id"),
        ({"role": "function", "content": "a", "name": "f"}, "messages[1].name"),
        ({"role": "assistant", "reasoning_content": "hm"}, "messages[1].content"),
        (picture("data:text/html;base64,aaaa"), "messages[1].content[0].image_url.url"),
        (picture("data:image/png;base64,a"), "messages[1].content[0].image_url.url"),
        (picture("data:image/png;base64,a\u00e9=="), "messages[1].content[0].image_url.url"),
        (picture("data:image/png,aaaa"), "messages[1].content[0].image_url.url"),
        (picture("data:image/png;base64"), "messages[1].content[0].image_url.url"),
    ],
)
def test_a_message_that_is_none_is_refused_by_its_path(message, param):
    with pytest.raises(InvalidRequest) as refused:
        turns(QUESTION[0], message)
    assert refused.value.param == param


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/", "https://example.com/a.png", "file:///etc/passwd", "//127.1", "", "DATA:,"]
)
def test_nothing_is_fetched(url):
    with pytest.raises(Unsupported) as refused:
        turns(picture(url))
    assert refused.value.param == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        *(
            ({"messages": [{"role": "user", "content": [{"type": kind}]}]}, "messages[0].content[0]")
            for kind in ("file", "input_audio", "audio_url", "video_url")
        ),
        ({"messages": [{"role": "assistant", "content": "a", "audio": {"id": "a"}}]}, "messages[0].audio"),
        (
            {"messages": [CALLING, picture("data:image/png;base64,aaaa") | {"role": "tool", "tool_call_id": "c0"}]},
            "messages[1].content",
        ),
    ],
)
def test_what_nobody_does_is_unsupported(fields, param):
    with pytest.raises(Unsupported) as refused:
        asked(chat(**fields))
    assert refused.value.param == param
