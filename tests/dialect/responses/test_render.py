"""Golden transcripts: what the engine tells, and what a client of `/v1/responses` reads of it."""

import json

import msgspec
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.api.http.problems import Problem
from gateway.api.responses.render import ResponseRendering, to_rendering
from gateway.api.responses.schema import responses_decoder
from gateway.api.responses.sealed import seal
from gateway.background import DETACHED
from gateway.engine import (
    Capability,
    Delta,
    EngineError,
    Finished,
    FinishReason,
    Fold,
    ModelCard,
    Sampling,
    Started,
    TokenLogprob,
    ToolDelta,
    Usage,
)

CARD = ModelCard(name="m", context_window=100, capabilities=frozenset(Capability), defaults=Sampling(temperature=0.5))
STARTED = Started(7, cached_tokens=2)
EVENT = TypeAdapter(ResponseStreamEvent)
ULID = "01KDVXK0M4Q2E6S9ZB3H7TJN5R"
BEGUN = {
    "id": f"resp_{ULID}", "object": "response", "created_at": 1767242302, "status": "in_progress", "background": False,
    "completed_at": None, "conversation": None, "error": None, "incomplete_details": None, "instructions": None,
    "max_output_tokens": None, "max_tool_calls": None, "metadata": {}, "model": "m", "output": [],
    "parallel_tool_calls": True, "previous_response_id": None, "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None}, "safety_identifier": None, "service_tier": "default", "store": True,
    "temperature": 0.5, "text": {"format": {"type": "text"}, "verbosity": "medium"}, "tool_choice": "auto", "tools": [],
    "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "usage": None, "user": None,
}  # fmt: skip
USAGE = {
    "input_tokens": 7, "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0}, "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 10,
}  # fmt: skip
SHAPE = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
TEXT = (Delta("Hel"), Delta(""), Delta("lo"))
CALLS = (ToolDelta(0, "", "c0", "f"), ToolDelta(0, '{"x":'), ToolDelta(0, "1}"), ToolDelta(1, "{}", "c1", "g"))
ALL = (Delta("", reasoning="h"), Delta("", reasoning="m"), Delta("a", reasoning="!"), *CALLS)
A = TokenLogprob(5, "Hel", -0.5, (TokenLogprob(5, "Hel", -0.5), TokenLogprob(6, "Y", -1.5)))
B = TokenLogprob(7, "lo", -0.25, (TokenLogprob(7, "lo", -0.25),))
SCORED = (Delta("Hel", 1, "", (A,)), Delta("lo", 1, "", (B,)))
INTERLEAVED = (Delta("a"), Delta("", reasoning="b"), Delta("c"), ToolDelta(0, "{}", "c0", "f"), Delta("d"))


def finished(reason=FinishReason.STOP):
    return Finished(reason, Usage(7, 3, 2, 1))


def rendering(**fields):
    body = responses_decoder.decode(msgspec.json.encode({"input": "hi"} | fields))
    return to_rendering(body, CARD, ULID)


def read(frame):
    name, data = frame.split(b"\n")
    told = json.loads(data.removeprefix(b"data: "))
    assert name == b"event: " + told["type"].encode()
    EVENT.validate_python(told, strict=True)
    return told


def decoded(body):
    return [read(frame) for frame in body.split(b"\n\n")[:-1]]


def stream(*events, made=None):
    made = made or rendering()
    told = decoded(b"".join(made.to_frame(event) for event in events))
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    return told


def whole(*events, **fields):
    made, fold = rendering(**fields), Fold()
    for event in events:
        made.note(event)
        fold.add(event)
    answer = fold.answer()
    reply = json.loads(made.to_reply({0: answer}, answer.finished.usage))
    Response.model_validate(reply, strict=True)
    return reply


def message(text, index=0, status="completed"):
    content = [] if text is None else [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    return {
        "type": "message", "id": f"msg_{ULID}_{index}", "status": status, "content": content, "role": "assistant",
    }  # fmt: skip


def test_a_streamed_text():
    told = stream(STARTED, *TEXT, finished())
    place = {"item_id": f"msg_{ULID}_0", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "annotations": [], "logprobs": []}
    completed = BEGUN | {"status": "completed", "output": [message("Hello")], "usage": USAGE}
    assert told[-1]["response"].pop("completed_at") >= 1767242302
    del completed["completed_at"]
    for number, event in enumerate(told):
        assert event.pop("sequence_number") == number
    assert told == [
        {"type": "response.created", "response": BEGUN},
        {"type": "response.in_progress", "response": BEGUN},
        {"type": "response.output_item.added", "output_index": 0, "item": message(None, status="in_progress")},
        {"type": "response.content_part.added", **place, "part": part | {"text": ""}},
        {"type": "response.output_text.delta", **place, "logprobs": [], "delta": "Hel"},
        {"type": "response.output_text.delta", **place, "logprobs": [], "delta": "lo"},
        {"type": "response.output_text.done", **place, "logprobs": [], "text": "Hello"},
        {"type": "response.content_part.done", **place, "part": part | {"text": "Hello"}},
        {"type": "response.output_item.done", "output_index": 0, "item": message("Hello")},
        {"type": "response.completed", "response": completed},
    ]


def test_a_text_with_the_scores_of_its_tokens():
    first = {"token": "Hel", "bytes": [72, 101, 108], "logprob": -0.5}
    other = {"token": "Y", "bytes": [89], "logprob": -1.5}
    last = {"token": "lo", "bytes": [108, 111], "logprob": -0.25}
    scores = [first | {"top_logprobs": [first, other]}, last | {"top_logprobs": [last]}]
    told = stream(STARTED, *SCORED, finished(), made=rendering(top_logprobs=2))
    place = {"item_id": f"msg_{ULID}_0", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": scores}
    item = message("Hello") | {"content": [part]}
    completed = told[-1].pop("response")
    assert (completed["output"], completed["top_logprobs"]) == ([item], 2)
    for number, event in enumerate(told):
        assert event.pop("sequence_number") == number
    assert told[3:] == [
        {"type": "response.content_part.added", **place, "part": part | {"text": "", "logprobs": []}},
        {"type": "response.output_text.delta", **place, "logprobs": scores[:1], "delta": "Hel"},
        {"type": "response.output_text.delta", **place, "logprobs": scores[1:], "delta": "lo"},
        {"type": "response.output_text.done", **place, "logprobs": scores, "text": "Hello"},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed"},
    ]
    assert whole(STARTED, *SCORED, finished(), top_logprobs=2) | {"completed_at": 0} == completed | {"completed_at": 0}


def test_a_streamed_thought_text_and_two_calls():
    told = stream(STARTED, *ALL, finished(FinishReason.TOOL_CALLS))
    kinds = [event["type"].removeprefix("response.") for event in told]
    assert kinds == [
        "created", "in_progress",
        "output_item.added", "content_part.added", *["reasoning_text.delta"] * 3, "reasoning_text.done",
        "content_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
        "output_item.done",
        "output_item.added", *["function_call_arguments.delta"] * 2, "function_call_arguments.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    assert told[2]["item"] == {
        "type": "reasoning", "id": f"rs_{ULID}_0", "status": "in_progress", "content": [], "summary": [],
    }  # fmt: skip
    assert told[3]["part"] == {"type": "reasoning_text", "text": ""}
    assert [event["delta"] for event in told[4:7]] == ["h", "m", "!"]
    begun = {"type": "function_call", "call_id": "c0", "name": "f", "arguments": "", "status": "in_progress"}
    assert told[16]["item"] == begun | {"id": f"fc_{ULID}_2"}
    assert [told[at]["delta"] for at in (17, 18)] == ['{"x":', "1}"]
    assert told[19]["arguments"] == '{"x":1}'
    thought = {"type": "reasoning_text", "text": "hm!"}
    call = {"type": "function_call", "status": "completed"}
    assert told[-1]["response"]["output"] == [
        {"type": "reasoning", "id": f"rs_{ULID}_0", "status": "completed", "content": [thought], "summary": []},
        message("a", 1),
        call | {"id": f"fc_{ULID}_2", "call_id": "c0", "name": "f", "arguments": '{"x":1}'},
        call | {"id": f"fc_{ULID}_3", "call_id": "c1", "name": "g", "arguments": "{}"},
    ]


def test_a_thought_is_told_in_one_word_too_where_that_is_included():
    include = ["reasoning.encrypted_content"]
    events = (STARTED, *ALL, finished(FinishReason.TOOL_CALLS))
    told = stream(*events, made=rendering(include=include))
    without = stream(*events)
    thought = {"type": "reasoning_text", "text": "hm!"}
    item = {"type": "reasoning", "id": f"rs_{ULID}_0", "status": "completed", "content": [thought], "summary": []}
    sealed = item | {"encrypted_content": seal("hm!")}
    assert told[-1]["response"]["output"][0] == sealed
    (done,) = (event for event in told if event["type"] == "response.output_item.done" and event["output_index"] == 0)
    assert done["item"] == sealed
    assert told[2]["item"].keys() == item.keys()  # there is no word for a thought that goes on
    assert whole(*events, include=include)["output"] == told[-1]["response"]["output"]
    for event in (told[-1]["response"]["output"][0], done["item"]):
        del event["encrypted_content"]
    del told[-1]["response"]["completed_at"], without[-1]["response"]["completed_at"]
    assert told == without


def test_a_thought_that_was_cut_off_is_told_in_one_word_too():
    made = rendering(include=["reasoning.encrypted_content"])
    (*_, last) = stream(STARTED, Delta("", reasoning="hm"), finished(FinishReason.LENGTH), made=made)
    (item,) = last["response"]["output"]
    assert (item["status"], item["encrypted_content"]) == ("incomplete", seal("hm"))


@pytest.mark.parametrize("events", [TEXT, ALL, INTERLEAVED, ()], ids=["text", "all", "interleaved", "nothing"])
@pytest.mark.parametrize("reason", FinishReason)
def test_a_stream_ends_with_the_whole_answer_and_its_pieces_add_up(events, reason):
    told = stream(STARTED, *events, finished(reason))
    reply = whole(STARTED, *events, finished(reason))
    last = told[-1]["response"]
    assert last | {"completed_at": None} == reply | {"completed_at": None}
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert done == reply["output"]
    for item in reply["output"]:
        pieces = [event["delta"] for event in told if event.get("item_id") == item["id"] and "delta" in event]
        text = item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"]
        assert "".join(pieces) == text


@pytest.mark.parametrize("reason", [FinishReason.LENGTH, FinishReason.DEADLINE])
def test_an_answer_that_is_cut_off_is_incomplete(reason):
    told = stream(STARTED, Delta("a"), finished(reason))
    assert told[-1]["type"] == "response.incomplete"
    response = told[-1]["response"]
    assert (response["status"], response["completed_at"]) == ("incomplete", None)
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"] == [message("a", status="incomplete")]


def test_a_whole_answer_says_what_was_asked():
    reply = whole(
        STARTED, Delta("{}"), finished(), instructions="Be brief.", max_output_tokens=9, temperature=0, top_p=0.5,
        metadata={"a": "b"}, previous_response_id="resp_1", parallel_tool_calls=False, store=False, user="u",
        reasoning={"effort": "none"}, text={"format": SHAPE},
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}}], background=False,
        tool_choice={"type": "function", "name": "f"}, safety_identifier="s", prompt_cache_key="k", max_tool_calls=3,
    )  # fmt: skip
    assert reply.keys() == {*BEGUN, "x_structured"}
    assert reply.pop("x_structured") == "valid"
    changed = {name: value for name, value in reply.items() if value != BEGUN[name]}
    del changed["output"], changed["completed_at"], changed["usage"]
    assert changed == {
        "status": "completed", "instructions": "Be brief.", "max_output_tokens": 9, "temperature": 0.0, "top_p": 0.5,
        "metadata": {"a": "b"}, "previous_response_id": "resp_1", "parallel_tool_calls": False, "store": False,
        "user": "u", "reasoning": {"effort": "none", "summary": None}, "safety_identifier": "s",
        "prompt_cache_key": "k",
        "text": {"format": SHAPE, "verbosity": "medium"},
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": None}],
        "tool_choice": {"type": "function", "name": "f"}, "max_tool_calls": 3,
    }  # fmt: skip


def test_a_stream_that_failed_ends_with_what_there_is():
    made = rendering()
    body = b"".join(made.to_frame(event) for event in (STARTED, Delta("a")))
    told = decoded(body + made.to_failure(Problem("engine_error", "it broke")))
    assert told[-1]["type"] == "response.failed"
    assert told[-1]["sequence_number"] == len(told) - 1
    response = told[-1]["response"]
    assert response["error"] == {"code": "server_error", "message": "it broke"}
    assert (response["status"], response["output"]) == ("failed", [message("a", status="incomplete")])


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("rate_limit_exceeded", "failed", "rate_limit_exceeded"),
        ("context_length_exceeded", "failed", "invalid_prompt"),
        ("draining", "failed", "server_error"),
        ("cancelled", "cancelled", None),
    ],
)
def test_an_error_is_told_in_the_words_that_there_are(code, status, told):
    (event,) = decoded(rendering().to_failure(Problem(code, "x")))
    error = event["response"]["error"]
    assert (event["response"]["status"], error and error["code"]) == (status, told)


def test_an_answer_in_the_background_is_queued_first():
    made = rendering(background=True)
    told = stream(DETACHED, STARTED, *TEXT, finished(), made=made)
    assert [event["type"] for event in told[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert [event["response"]["status"] for event in told[:3]] == ["queued", "queued", "in_progress"]


@pytest.mark.parametrize("events", [TEXT, ALL, INTERLEAVED, SCORED], ids=["text", "all", "interleaved", "scored"])
def test_a_stream_that_is_resumed_is_the_rest_of_the_first_one(events):
    sentence = (DETACHED, STARTED, *events, finished())
    begun = rendering(background=True)._begun
    first = stream(*sentence, made=ResponseRendering(begun))
    ended = msgspec.json.decode(json.dumps(first[-1]["response"]), type=type(begun))
    for after in range(-1, len(first)):
        again = ResponseRendering(begun, after=after, ended=ended)
        assert decoded(b"".join(again.to_frame(event) for event in sentence)) == first[after + 1 :]


@pytest.mark.parametrize("code", ["engine_error", "cancelled"])
@pytest.mark.parametrize("events", [(), (Delta("a"),), ALL], ids=["nothing", "text", "all"])
def test_a_stream_that_broke_off_is_resumed_at_every_cut(events, code):
    begun = rendering(background=True)._begun
    sentence = (DETACHED, STARTED, *events)

    def told(made):
        frames = b"".join(made.to_frame(event) for event in sentence)
        return decoded(frames + made.to_failure(Problem(code, "it broke")))

    first = told(ResponseRendering(begun))
    ended = msgspec.json.decode(json.dumps(first[-1]["response"]), type=type(begun))
    for after in range(-1, len(first)):
        assert told(ResponseRendering(begun, after=after, ended=ended)) == first[after + 1 :]


def test_an_answer_under_way_can_be_looked_at():
    made = rendering(background=True)
    assert json.loads(made.to_state())["status"] == "queued"
    for event in (STARTED, Delta("a"), Delta("b")):
        made.note(event)
    state = json.loads(made.to_state())
    Response.model_validate(state, strict=True)
    assert (state["status"], state["output"]) == ("in_progress", [message("ab", status="in_progress")])
    broken = json.loads(made.to_broken(EngineError("it broke")))
    assert (broken["status"], broken["error"]["message"]) == ("failed", "it broke")
