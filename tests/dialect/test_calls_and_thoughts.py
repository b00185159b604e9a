"""What is streamed adds up to the whole, whatever the pieces: text, thoughts and calls, in every dialect."""

import json

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.api.anthropic.render import MessagesRendering
from gateway.api.anthropic.thinking import sign
from gateway.api.responses.render import to_rendering
from gateway.api.responses.schema import responses_decoder
from gateway.engine import (
    Delta,
    Finished,
    FinishReason,
    Fold,
    ModelCard,
    Started,
    ToolDelta,
    Usage,
    continued,
    join_run,
)
from tests.support.openai_dialect import chat, chunks, whole

TOOL = {"name": "f"}
EVENT = TypeAdapter(RawMessageStreamEvent)
RESPONSE_EVENT = TypeAdapter(ResponseStreamEvent)
CARD = ModelCard(name="m", context_window=100, capabilities=frozenset())
ULID = "01KDVXK0M4Q2E6S9ZB3H7TJN5R"
# The keys of what an answer is made of, and no others.
BLOCKS = {
    frozenset({"type", "thinking", "signature"}),
    frozenset({"type", "text"}),
    frozenset({"type", "id", "name", "input"}),
}
ITEMS = {
    frozenset({"type", "id", "status", "content", "summary"}),
    frozenset({"type", "id", "status", "content", "role"}),
    frozenset({"type", "id", "status", "call_id", "name", "arguments"}),
}


def pieces(text):
    """Split a text at every way there is."""
    return st.lists(st.integers(0, len(text)), max_size=4).map(
        lambda cuts: [text[a:b] for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), len(text)], strict=True)]
    )


@st.composite
def answers(draw):
    """Make the events of an answer: thoughts, texts and calls in any order and any pieces, neighbours joined or not."""
    told, thought, index = [], "", -1
    for kind in draw(st.lists(st.sampled_from(["thought", "text", "call"]), max_size=5)):
        if kind == "thought":
            thought = "hm, é"
            told += [Delta("", reasoning=piece) for piece in draw(pieces(thought))]
        elif kind == "text":
            told += [Delta(piece) for piece in draw(pieces("So:\n\n"))]
        else:
            index += 1
            told.append(ToolDelta(index, id=f"c{index}", name="f" * (index + 1)))
            told += [ToolDelta(index, piece) for piece in draw(pieces('{"x": [1, "é"]}'))]
    joined = []
    for event in told:
        following = continued(joined[-1], event) if joined and draw(st.booleans()) else None
        if following is None:
            joined.append([event])
        else:
            joined[-1].append(following)
    calls = any(isinstance(event, ToolDelta) for event in told)
    reason = FinishReason.TOOL_CALLS if calls else FinishReason.STOP
    return [Started(7), *map(join_run, joined), Finished(reason, Usage(7, 9, 0, 3 if thought else 0))]


def add_up_openai(told):
    message, reason = {"content": "", "calls": []}, None
    for chunk in told:
        (choice,) = chunk["choices"]
        delta, reason = choice["delta"], choice["finish_reason"]
        for name in ("content", "reasoning", "reasoning_content"):
            if delta.get(name):
                message[name] = message.get(name, "") + delta[name]
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                assert call["index"] == len(message["calls"])
                message["calls"].append({"id": call["id"], "type": call["type"], "function": dict(call["function"])})
            else:
                message["calls"][call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    return message, reason


@given(answers())
def test_chunks_of_openai_add_up_to_the_whole(events):
    told = chunks(chat(stream=True), *events)
    for each in told:
        ChatCompletionChunk.model_validate(each, strict=True)
    message, reason = add_up_openai(told)
    answer = whole(chat(), *events)
    ChatCompletion.model_validate(answer, strict=True)
    said = answer["choices"][0]["message"]
    assert reason == answer["choices"][0]["finish_reason"]
    assert message["calls"] == said.get("tool_calls", [])
    assert message["content"] == (said["content"] or "")
    for name in ("reasoning", "reasoning_content"):
        assert message.get(name) == said.get(name)
    keys = {"role", "content", "refusal", "annotations"}
    keys |= {"tool_calls"} if message["calls"] else set()
    keys |= {"reasoning", "reasoning_content"} if "reasoning" in message else set()
    assert said.keys() == keys


def add_to(block, delta):
    """Add a piece to a block that is open."""
    assert block["open"]
    for key, name in (("text", "text"), ("thinking", "thinking"), ("partial_json", "json"), ("signature", "signature")):
        if key in delta:
            block[name] += delta[key]


def add_up_anthropic(frames):
    blocks, last = [], None
    for frame in frames:
        last = json.loads(frame.split(b"data: ")[1])
        if last["type"] == "ping":
            continue
        EVENT.validate_python(last, strict=True)
        if last["type"] == "content_block_start":
            assert last["index"] == len(blocks)
            blocks.append(last["content_block"] | {"open": True, "json": ""})
        elif last["type"] == "content_block_delta":
            add_to(blocks[last["index"]], last["delta"])
        elif last["type"] == "content_block_stop":
            blocks[last["index"]].pop("open")
        elif last["type"] == "message_delta":
            reason = last["delta"]["stop_reason"]
    for block in blocks:
        written = block.pop("json")
        if written:
            block["input"] = json.loads(written)
    return blocks, reason


def reply(rendering, events):
    """Render a whole answer, as every answer that is not streamed is."""
    fold = Fold()
    for event in events:
        rendering.note(event)
        fold.add(event)
    return rendering.to_reply({0: fold.answer()}, Usage(7, 9))


@given(answers())
def test_events_of_anthropic_add_up_to_the_whole(events):
    rendering = MessagesRendering("m", "1")
    frames = b"".join(rendering.to_frame(event) for event in events).split(b"\n\n")[:-1]
    blocks, reason = add_up_anthropic(frames)
    answer = json.loads(reply(MessagesRendering("m", "1"), events))
    Message.model_validate(answer, strict=True)
    assert (blocks, reason) == (answer["content"], answer["stop_reason"])
    assert {frozenset(block) for block in blocks} <= BLOCKS
    assert all(block["signature"] == sign(block["thinking"]) for block in blocks if block["type"] == "thinking")


def add_up_responses(told):
    """Put the items of a response together from their pieces."""
    items = {}
    for event in told:
        if event["type"] == "response.output_item.added":
            assert event["output_index"] == len(items)
            items[event["item"]["id"]] = event["item"]
        elif "delta" in event:
            item = items[event["item_id"]]
            if item["type"] == "function_call":
                item["arguments"] += event["delta"]
            else:
                (part,) = item["content"]
                part["text"] += event["delta"]
        elif event["type"] == "response.content_part.added":
            items[event["item_id"]]["content"].append(event["part"])
        elif event["type"] == "response.output_item.done":
            items[event["item"]["id"]]["status"] = event["item"]["status"]
            assert items[event["item"]["id"]] == event["item"]
    return list(items.values())


@given(answers())
def test_events_of_responses_add_up_to_the_whole(events):
    body = responses_decoder.decode(b'{"input": "hi"}')
    made = to_rendering(body, CARD, ULID)
    frames = b"".join(made.to_frame(event) for event in events).split(b"\n\n")[:-1]
    told = [json.loads(frame.split(b"data: ")[1]) for frame in frames]
    for event in told:
        RESPONSE_EVENT.validate_python(event, strict=True)
    answer = json.loads(reply(to_rendering(body, CARD, ULID), events))
    Response.model_validate(answer, strict=True)
    assert add_up_responses(told) == answer["output"]
    assert told[-1]["response"] | {"completed_at": 0} == answer | {"completed_at": 0}
    assert {frozenset(item) for item in answer["output"]} <= ITEMS


CALL = [ToolDelta(0, "", "c0", "f"), ToolDelta(0, '{"x":'), ToolDelta(0, "1}")]
ENDED = Finished(FinishReason.TOOL_CALLS, Usage(7, 3))


def test_the_call_of_a_function_is_said_in_its_older_words():
    body = {"functions": [TOOL]}
    answer = whole(chat(**body), Started(7), *CALL, ENDED)
    ChatCompletion.model_validate(answer, strict=True)
    assert answer["choices"][0]["finish_reason"] == "function_call"
    message = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    assert answer["choices"][0]["message"] == message | {"function_call": {"name": "f", "arguments": '{"x":1}'}}
    told = chunks(chat(stream=True, **body), Started(7), *CALL, ENDED)
    for each in told:
        ChatCompletionChunk.model_validate(each, strict=True)
    assert [each["choices"][0]["delta"] for each in told[1:]] == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": '{"x":'}},
        {"function_call": {"arguments": "1}"}},
        {},
    ]
    assert told[-1]["choices"][0]["finish_reason"] == "function_call"


@pytest.mark.parametrize("body", [{"include_reasoning": False}, {"reasoning": {"exclude": True}}])
def test_a_thought_that_is_not_to_be_told_is_counted_all_the_same(body):
    ended = Finished(FinishReason.STOP, Usage(7, 3, 0, 2))
    events = (Started(7), Delta("", reasoning="hm"), Delta("a", reasoning="!"), ended)
    answer = whole(chat(**body), *events)
    assert answer["choices"][0]["message"].keys() == {"role", "content", "refusal", "annotations"}
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 2
    told = chunks(chat(stream=True, **body), *events)
    assert [each["choices"][0]["delta"] for each in told[1:]] == [{"content": "a"}, {}]
