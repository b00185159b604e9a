import pytest

from gateway.engine import Image, InvalidRequest, Message, Text, ToolCall, ToolResult, Unsupported
from tests.support.openai_dialect import QUESTION, asked, chat

CALL = {"id": "c0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


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
        ({"tools": [{"function": {"name": "f", "strict": True}}]}, "tools[0].function.strict"),
        ({"tools": TOOLS, "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "messages[0].content[0]"),
        (
            {"messages": [picture("data:image/png;base64,aaaa") | {"role": "tool", "tool_call_id": "a"}]},
            "messages[0].content",
        ),
    ],
)
def test_what_nobody_does_is_unsupported(fields, param):
    with pytest.raises(Unsupported) as refused:
        asked(chat(**fields))
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"function": {"name": "g"}}, "tools": TOOLS}, "tool_choice.function.name"),
    ],
)
def test_a_choice_needs_its_tool(fields, param):
    with pytest.raises(InvalidRequest) as refused:
        asked(chat(**fields))
    assert refused.value.param == param
