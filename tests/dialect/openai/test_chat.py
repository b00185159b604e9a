"""Golden transcripts: what the engine tells, and what a client of `/v1/chat/completions` reads of it."""

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.engine import Delta, Finished, FinishReason, Started, TokenLogprob, ToolDelta, Usage
from tests.support.openai_dialect import chat, chunks, finished, streamed, whole

STARTED = Started(7, cached_tokens=2)
USAGE = {
    "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
    },
}  # fmt: skip
HEAD = {"id": "chatcmpl-1", "created": 1_767_225_600, "model": "m", "service_tier": "default"}
HEAD |= {"system_fingerprint": "fp_53e79feb78"}
CALLS = [ToolDelta(0, "", "c0", "f"), ToolDelta(0, '{"x":'), ToolDelta(0, "1}"), ToolDelta(1, "{}", "c1", "g")]
LIKELY = TokenLogprob(1, " é", -0.5, top=(TokenLogprob(1, " é", -0.5), TokenLogprob(2, "b", float("-inf"))))
BROKEN = TokenLogprob(3, "\ufffd", float("nan"))


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr("gateway.api.openai.render.time.time", lambda: 1_767_225_600.9)


def reply(message, reason="stop", logprobs=None, **fields):
    message = {"role": "assistant", "content": "", "refusal": None, "annotations": []} | message
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": reason}
    return HEAD | {"object": "chat.completion", "choices": [choice], "usage": USAGE} | fields


def chunk(delta, reason=None, logprobs=None, **fields):
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
    return HEAD | {"object": "chat.completion.chunk", "choices": [choice]} | fields


def read(body, *events):
    """Read a whole answer, and hold it against the SDK's own type."""
    answer = whole(body, *events)
    ChatCompletion.model_validate(answer, strict=True)
    return answer


def follow(body, *events):
    told = chunks(body, *events)
    for each in told:
        ChatCompletionChunk.model_validate(each, strict=True)
    return told


FIRST = {"role": "assistant", "content": "", "refusal": None}


def test_a_whole_text():
    assert read(chat(), STARTED, Delta("Hel"), Delta(""), Delta("lo"), finished()) == reply({"content": "Hello"})


def test_a_streamed_text_to_the_byte():
    body = streamed(chat(stream=True), STARTED, Delta("Hel"), Delta(""), Delta('"\n\n'), finished())
    head = (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1767225600,"model":"m",'
        b'"service_tier":"default","system_fingerprint":"fp_53e79feb78","choices":[{"index":0,"delta":'
    )
    assert body.split(b"\n\n") == [
        head + b'{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}',
        head + b'{"content":"Hel"},"logprobs":null,"finish_reason":null}]}',
        head + b'{"content":"\\"\\n\\n"},"logprobs":null,"finish_reason":null}]}',
        head + b'{},"logprobs":null,"finish_reason":"stop"}]}',
        b"",
    ]


def test_a_streamed_text_with_its_usage():
    body = chat(stream=True, stream_options={"include_usage": True})
    assert follow(body, STARTED, Delta("Hi"), finished(FinishReason.LENGTH)) == [
        chunk(FIRST, usage=None),
        chunk({"content": "Hi"}, usage=None),
        chunk({}, "length", usage=None),
        chunk({}) | {"choices": [], "usage": USAGE},
    ]


@pytest.mark.parametrize(
    ("reason", "said"),
    [("stop", "stop"), ("length", "length"), ("tool_calls", "tool_calls"), ("deadline", "length")],
)
def test_an_answer_ends_with_one_of_openais_reasons(reason, said):
    events = (STARTED, Delta("a"), finished(FinishReason(reason)))
    assert read(chat(), *events)["choices"][0]["finish_reason"] == said
    assert follow(chat(), *events)[-1] == chunk({}, said)


def test_whole_calls():
    told = read(chat(), STARTED, *CALLS, finished(FinishReason.TOOL_CALLS))
    calls = [
        {"id": "c0", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "c1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert told == reply({"content": None, "tool_calls": calls}, "tool_calls")


def test_streamed_calls():
    told = follow(chat(), STARTED, Delta("So: "), *CALLS, finished(FinishReason.TOOL_CALLS))
    pieces = [
        {"index": 0, "id": "c0", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"x":'}},
        {"index": 0, "function": {"arguments": "1}"}},
        {"index": 1, "id": "c1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert told == [
        chunk(FIRST),
        chunk({"content": "So: "}),
        *(chunk({"tool_calls": [piece]}) for piece in pieces),
        chunk({}, "tool_calls"),
    ]


def test_thoughts_are_told_apart_and_counted():
    ended = Finished(FinishReason.STOP, Usage(7, 3, 2, reasoning_tokens=2))
    events = (STARTED, Delta("", tokens=2, reasoning="hm"), Delta("a"), ended)
    details = USAGE["completion_tokens_details"] | {"reasoning_tokens": 2}
    usage = USAGE | {"completion_tokens_details": details}
    assert read(chat(), *events) == reply({"content": "a", "reasoning_content": "hm", "reasoning": "hm"}, usage=usage)
    told = follow(chat(stream=True, stream_options={"include_usage": True}), *events)
    assert told[1:3] == [
        chunk({"reasoning_content": "hm", "reasoning": "hm"}, usage=None),
        chunk({"content": "a"}, usage=None),
    ]
    assert told[-1]["usage"] == usage


def test_logprobs_have_bytes_and_numbers_that_json_has():
    body = chat(logprobs=True, top_logprobs=2)
    events = (STARTED, Delta(" é", logprobs=(LIKELY,)), Delta("", logprobs=(BROKEN,)), finished())
    likely = {"token": " é", "logprob": -0.5, "bytes": [32, 195, 169]}
    other = {"token": "b", "logprob": -9999.0, "bytes": [98]}
    content = [
        likely | {"top_logprobs": [likely, other]},
        {"token": "\ufffd", "logprob": -9999.0, "bytes": None, "top_logprobs": []},
    ]
    assert read(body, *events) == reply({"content": " é"}, logprobs={"content": content, "refusal": None})
    assert follow(body, *events) == [
        chunk(FIRST),
        chunk({"content": " é"}, logprobs={"content": content[:1], "refusal": None}),
        chunk({"content": ""}, logprobs={"content": content[1:], "refusal": None}),
        chunk({}, "stop"),
    ]


def test_the_bytes_of_parts_of_a_character_are_the_character():
    parts = tuple(
        TokenLogprob(at, "\ufffd", -0.5, (TokenLogprob(9, "\ufffd", -1.0, raw=b"\xe4"),), raw=bytes([byte]))
        for at, byte in enumerate("é".encode())
    )
    events = (STARTED, Delta("", logprobs=parts[:1]), Delta("é", logprobs=parts[1:]), finished())
    body = chat(logprobs=True, top_logprobs=1)
    whole = read(body, *events)["choices"][0]["logprobs"]["content"]
    told = [
        token for each in follow(body, *events) for token in (each["choices"][0]["logprobs"] or {}).get("content", [])
    ]
    assert whole == told
    assert bytes(byte for token in whole for byte in token["bytes"]).decode() == "é"
    assert [token["top_logprobs"][0]["bytes"] for token in whole] == [[0xE4], [0xE4]]


def test_an_empty_answer_has_all_that_others_have():
    assert read(chat(logprobs=True), STARTED, finished()) == reply(
        {"content": ""}, logprobs={"content": [], "refusal": None}
    )
    assert follow(chat(), STARTED, finished()) == [chunk(FIRST), chunk({}, "stop")]


def test_the_prompts_logprobs_and_no_answer():
    started = Started(7, cached_tokens=2, prompt_logprobs=(TokenLogprob(5, "a", 0.0), LIKELY))
    told = read(chat(max_tokens=0, prompt_logprobs=2), started, Delta("x"), finished())
    ranks = {
        "1": {"logprob": -0.5, "rank": 1, "decoded_token": " é"},
        "2": {"logprob": -9999.0, "rank": 2, "decoded_token": "b"},
    }
    usage = USAGE | {"completion_tokens": 0, "total_tokens": 7}
    assert told == reply({}, "length", usage=usage, prompt_logprobs=[None, ranks])


def test_metadata_is_said_again():
    assert read(chat(metadata={"a": "b"}), STARTED, finished()) == reply({}, metadata={"a": "b"})


@pytest.mark.parametrize("words", [["a\u2028b", "\x00\x1f", "👩‍👩‍👧", "日本語", "\r\n", "data: x\n\n"]])
def test_streamed_pieces_joined_are_the_whole_text(words):
    events = (STARTED, *map(Delta, words), finished())
    told = follow(chat(), *events)
    joined = "".join(each["choices"][0]["delta"].get("content", "") for each in told)
    assert joined == read(chat(), *events)["choices"][0]["message"]["content"] == "".join(words)


@pytest.mark.parametrize(("reason", "said"), [(FinishReason.STOP, "valid"), (FinishReason.LENGTH, "truncated")])
def test_the_last_chunk_of_an_answer_with_a_shape_says_whether_it_is_whole(reason, said):
    body = chat(stream=True, response_format={"type": "json_object"})
    *others, last = follow(body, STARTED, Delta("{}"), finished(reason))
    assert last["choices"] == [
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason.value, "x_structured": said}
    ]
    assert not any("x_structured" in choice for each in others for choice in each["choices"])
    assert read(body, STARTED, Delta("{}"), finished()) == reply({"content": "{}"})
