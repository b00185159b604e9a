"""Golden transcripts: what the engine tells, and what a client of `/v1/messages` reads of it."""

import json

import msgspec
import pytest
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from pydantic import TypeAdapter

from gateway.api.anthropic.errors import WORDS, to_body, to_status
from gateway.api.anthropic.render import PING, MessagesRendering, to_count
from gateway.api.anthropic.thinking import Thinking, sign
from gateway.api.http.problems import TABLE, Problem
from gateway.engine import Delta, Finished, FinishReason, Started, ToolDelta, Usage, collect

STARTED = Started(7, cached_tokens=2)
USAGE = {"input_tokens": 5, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 0}
KINDS = {
    "invalid_request_error", "authentication_error", "permission_error", "not_found_error", "conflict_error",
    "request_too_large", "rate_limit_error", "timeout_error", "api_error", "overloaded_error",
}  # fmt: skip


EVENT = TypeAdapter(RawMessageStreamEvent)


def finished(reason=FinishReason.STOP, stop=None):
    return Finished(reason, Usage(7, 3, 2), stop)


def stream(*events):
    rendering = MessagesRendering("m", "1")
    body = b"".join(rendering.to_frame(event) for event in events)
    told = [read(frame) for frame in body.split(b"\n\n")[:-1]]
    for event in told:
        if event["type"] != "ping":  # the SDK's types do not know it; its reader does
            EVENT.validate_python(event, strict=True)
    return told


def read(frame):
    name, data = frame.split(b"\n")
    told = json.loads(data.removeprefix(b"data: "))
    assert name == b"event: " + told["type"].encode()
    return told


async def whole(*events):
    async def told():
        for event in events:
            yield event

    folded, rendering = await collect(told()), MessagesRendering("m", "1")
    for event in events:
        rendering.note(event)
    answer = json.loads(rendering.to_reply({0: folded}, folded.finished.usage))
    Message.model_validate(answer, strict=True)
    return answer


def test_a_prompt_of_unknown_length_is_counted_by_the_last_event():
    told = stream(Started(None), Delta("a"), finished())
    assert told[0]["message"]["usage"]["input_tokens"] == 0
    assert told[-2]["usage"] | USAGE == told[-2]["usage"]


def to_error(problem, request_id=None):
    return msgspec.json.encode(to_body(problem, request_id))


def message(**fields):
    return {
        "type": "message", "id": "msg_1", "role": "assistant", "model": "m", "content": [],
        "stop_reason": None, "stop_sequence": None,
        "usage": USAGE | {"output_tokens": 0, "service_tier": "standard"},
    } | fields  # fmt: skip


def ending(reason, stop=None):
    return [
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": stop},
            "usage": USAGE | {"output_tokens": 3},
        },
        {"type": "message_stop"},
    ]


def test_a_streamed_text():
    assert stream(STARTED, Delta("Hel"), Delta(""), Delta("lo"), finished()) == [
        {"type": "message_start", "message": message()},
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        *ending("end_turn"),
    ]


def test_a_streamed_thought_text_and_two_calls():
    calls = [ToolDelta(0, "", "c0", "f"), ToolDelta(0, '{"x":'), ToolDelta(0, "1}"), ToolDelta(1, "{}", "c1", "g")]
    told = stream(
        STARTED, Delta("", reasoning="hm"), Delta("a", reasoning="!"), *calls, finished(FinishReason.TOOL_CALLS)
    )
    assert told[2:] == [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "!"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": sign("hm!")}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_stop", "index": 1},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "c0", "name": "f", "input": {}},
        },
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"x":'}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
        {"type": "content_block_stop", "index": 2},
        {
            "type": "content_block_start",
            "index": 3,
            "content_block": {"type": "tool_use", "id": "c1", "name": "g", "input": {}},
        },
        {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_stop", "index": 3},
        *ending("tool_use"),
    ]


def test_an_answer_of_nothing_has_no_block():
    assert [event["type"] for event in stream(STARTED, finished())] == [
        "message_start", "ping", "message_delta", "message_stop",
    ]  # fmt: skip


async def test_a_whole_answer():
    calls = [ToolDelta(0, '{"x":', "c0", "f"), ToolDelta(0, "1}")]
    reply = await whole(STARTED, Delta("a", reasoning="hm"), *calls, finished(FinishReason.TOOL_CALLS))
    assert reply == message(
        content=[
            {"type": "thinking", "thinking": "hm", "signature": sign("hm")},
            {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "c0", "name": "f", "input": {"x": 1}},
        ],
        stop_reason="tool_use",
        usage=USAGE | {"output_tokens": 3, "service_tier": "standard"},
    )


async def test_what_is_thought_said_and_called_in_turns_is_told_in_its_order():
    events = (Delta("a"), Delta("", reasoning="hm"), ToolDelta(0, "{}", "c0", "f"), Delta("", reasoning="ha"))
    events = (STARTED, *events, Delta("b"), ToolDelta(1, "{}", "c1", "g"), finished(FinishReason.TOOL_CALLS))
    content = (await whole(*events))["content"]
    assert content == [
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": "hm", "signature": sign("hm")},
        {"type": "tool_use", "id": "c0", "name": "f", "input": {}},
        {"type": "thinking", "thinking": "ha", "signature": sign("ha")},
        {"type": "text", "text": "b"},
        {"type": "tool_use", "id": "c1", "name": "g", "input": {}},
    ]
    begun = [event["content_block"]["type"] for event in stream(*events) if event["type"] == "content_block_start"]
    assert begun == [block["type"] for block in content]


THOUGHTFUL = (STARTED, Delta("", reasoning="h"), Delta("", reasoning="m"), Delta("a"))


def test_a_thought_that_is_not_to_be_told_has_its_signature():
    rendering = MessagesRendering("m", "1", Thinking("enabled", display="omitted"))
    told = [read(frame) for event in THOUGHTFUL for frame in rendering.to_frame(event).split(b"\n\n")[:-1]]
    for event in told[2:]:
        EVENT.validate_python(event, strict=True)
    assert told[2:5] == [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": sign("hm")}},
        {"type": "content_block_stop", "index": 0},
    ]


async def test_thoughts_are_counted():
    end = Finished(FinishReason.STOP, Usage(7, 3, 2, 2))
    details = {"output_tokens_details": {"thinking_tokens": 2}}
    assert (await whole(*THOUGHTFUL, end))["usage"] == message()["usage"] | {"output_tokens": 3} | details
    assert stream(*THOUGHTFUL, end)[-2]["usage"] == USAGE | {"output_tokens": 3} | details


@pytest.mark.parametrize("arguments", ['{"x": ', "[]", "nonsense", ""])
async def test_arguments_that_are_no_object_are_no_input(arguments):
    reply = await whole(STARTED, ToolDelta(0, arguments, "c", "f"), finished())
    assert reply["content"] == [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]


@pytest.mark.parametrize(
    ("end", "reason", "stop"),
    [
        (finished(), "end_turn", None),
        (finished(stop="##"), "stop_sequence", "##"),
        (finished(stop=2), "end_turn", None),
        (finished(FinishReason.LENGTH), "max_tokens", None),
        (finished(FinishReason.TOOL_CALLS), "tool_use", None),
        (finished(FinishReason.DEADLINE), "max_tokens", None),
    ],
)
async def test_why_it_ended_is_the_same_whole_and_streamed(end, reason, stop):
    reply = await whole(STARTED, Delta("a"), end)
    assert (reply["stop_reason"], reply["stop_sequence"]) == (reason, stop)
    assert stream(STARTED, Delta("a"), end)[-2:] == ending(reason, stop)


@pytest.mark.parametrize("code", sorted(TABLE))
def test_every_error_is_of_a_kind_that_clients_know(code):
    body = json.loads(to_error(Problem(code, "what", param="a.b"), "req"))
    kind = body["error"].pop("type")
    assert body == {"type": "error", "error": {"message": "a.b: what"}, "request_id": "req"}
    assert kind in KINDS


def test_an_error_says_its_field_once():
    body = json.loads(to_error(Problem("invalid_value", "a.b: expected more", param="a.b")))
    assert body["error"]["message"] == "a.b: expected more"


@pytest.mark.parametrize(
    ("code", "status"), [("overloaded", 529), ("queue_timeout", 529), ("draining", 503), ("invalid_value", 400)]
)
def test_too_much_to_do_has_anthropics_own_status(code, status):
    assert to_status(Problem(code)) == status


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("invalid_value", "invalid_request_error"),
        ("invalid_api_key", "authentication_error"),
        ("model_not_found", "not_found_error"),
        ("request_too_large", "request_too_large"),
        ("tokens_exceeded", "rate_limit_error"),
        ("engine_error", "api_error"),
        ("upstream_unavailable", "api_error"),
        ("overloaded", "overloaded_error"),
        ("unsupported_media_type", "invalid_request_error"),
    ],
)
def test_an_error_is_of_its_status_kind_also_in_a_stream(code, kind):
    assert json.loads(to_error(Problem(code)))["error"]["type"] == kind
    assert read(WORDS.to_frame(Problem(code), "req").removesuffix(b"\n\n"))["error"]["type"] == kind


def test_a_ping_and_a_count():
    assert PING == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert json.loads(to_count(12)) == {"input_tokens": 12}
    MessageTokensCount.model_validate_json(to_count(12), strict=True)
    ErrorResponse.model_validate_json(to_error(Problem("invalid_value")), strict=True)


@pytest.mark.parametrize(("reason", "said"), [(FinishReason.STOP, "valid"), (FinishReason.LENGTH, "truncated")])
def test_the_end_of_an_answer_with_a_shape_says_whether_it_is_whole(reason, said):
    rendering = MessagesRendering("m", "1")
    rendering.is_structured = True
    last = read(rendering.to_frame(finished(reason)).split(b"\n\n")[-3])
    EVENT.validate_python(last, strict=True)
    stop_reason = "end_turn" if said == "valid" else "max_tokens"
    assert last["delta"] == {"stop_reason": stop_reason, "stop_sequence": None, "x_structured": said}
