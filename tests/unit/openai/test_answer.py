"""From frames to events: texts, thoughts, calls, logprobs, ids, scores and usage."""

import json

import msgspec
import pytest

from gateway.engine import (
    Chat,
    Completion,
    Delta,
    Finished,
    FinishReason,
    Fold,
    GenerateRequest,
    Message,
    Sampling,
    Started,
    Text,
    TokenDelta,
    TokenLogprob,
    ToolDelta,
    UpstreamFailed,
    Usage,
)
from gateway_openai.answer import AnswerReader

USAGE = {"prompt_tokens": 3, "completion_tokens": 4}


def asked(prompt=None, **sampling):
    chat = Chat((Message("user", (Text("hi"),)),))
    return GenerateRequest(id="1", model="m", prompt=prompt or chat, sampling=msgspec.convert(sampling, Sampling))


def choice(delta=None, **fields):
    return {"choices": [{"index": 0, "delta": delta or {}, **fields}]}


def text(content, **fields):
    return choice({"content": content}, **fields)


def end(reason="stop", usage=USAGE):
    return [choice(finish_reason=reason), {"choices": [], "usage": usage}]


def read(*frames, request=None, most=50):
    """The events of frames that come one by one."""
    reader = AnswerReader(request or asked(), most)
    pieces = [b"data: %b\n\n" % json.dumps(frame).encode() for frame in frames]
    return [event for piece in [*pieces, b"data: [DONE]\n\n"] for event in reader.feed(piece)]


def folded(events):
    fold = Fold()
    for event in events:
        fold.add(event)
    return fold.answer()


def test_frames_of_one_piece_are_one_delta():
    reader = AnswerReader(asked(), 50)
    frames = [text("a"), text("b"), text("c"), *end()]
    found = reader.feed(b"".join(b"data: %b\n\n" % json.dumps(frame).encode() for frame in frames))
    assert found == [Started(None), Delta("abc", tokens=2)]
    assert reader.feed(b"data: [DONE]\n\n") == [
        Delta("", tokens=2),
        Finished(FinishReason.STOP, Usage(3, 4)),
    ]
    assert reader.ended


@pytest.mark.parametrize("word", ["reasoning_content", "reasoning"])
def test_a_thought_is_told_apart_under_both_of_its_names(word):
    events = read(choice({word: "Hm"}), choice({word: "."}), text("Yes"), *end())
    answer = folded(events)
    assert (answer.reasoning, answer.text) == ("Hm.", "Yes")
    assert answer.finished.usage.reasoning_tokens == 1


def test_a_thought_behind_a_text_is_a_delta_of_its_own():
    reader = AnswerReader(asked(), 50)
    frames = [text("a"), choice({"reasoning": "b"}), text("c")]
    found = reader.feed(b"".join(b"data: %b\n\n" % json.dumps(frame).encode() for frame in frames))
    assert [(event.text, event.reasoning) for event in found[1:]] == [("a", ""), ("c", "b")]


def test_the_servers_count_of_what_it_thought_and_had_cached_is_told():
    usage = USAGE | {"completion_tokens_details": {"reasoning_tokens": 2}}
    usage |= {"prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0}}
    assert folded(read(text("a"), *end(usage=usage))).finished.usage == Usage(3, 4, 1, 2)


def test_parts_that_are_larger_than_the_whole_are_cut_to_it():
    usage = USAGE | {
        "completion_tokens_details": {"reasoning_tokens": 9},
        "prompt_tokens_details": {"cached_tokens": 9},
    }
    assert folded(read(text("a"), *end(usage=usage))).finished.usage == Usage(3, 4, 3, 4)


def test_details_that_are_null_are_none():
    usage = USAGE | {"completion_tokens_details": None, "prompt_tokens_details": {"cached_tokens": None}}
    assert folded(read(text("a"), *end(usage=usage))).finished.usage == Usage(3, 4)


@pytest.mark.parametrize("reason", ["tool_calls", "stop", "function_call"])
def test_calls_are_told_and_end_the_answer_as_such(reason):
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}
    rest = {"index": 0, "function": {"arguments": "}"}}
    events = read(choice({"tool_calls": [call]}), choice({"tool_calls": [rest]}), *end(reason))
    assert [event for event in events if isinstance(event, ToolDelta)] == [
        ToolDelta(0, "{", "c", "f", 0),
        ToolDelta(0, "}", tokens=1),
    ]
    assert events[-1] == Finished(FinishReason.TOOL_CALLS, Usage(3, 4))
    assert sum(event.tokens for event in events if isinstance(event, Delta | ToolDelta)) == 4


def test_an_end_as_tool_calls_without_a_call_is_an_end():
    assert folded(read(text("a"), *end("tool_calls"))).finished.reason is FinishReason.STOP


@pytest.mark.parametrize(
    ("word", "reason"), [("eos_token", "stop"), ("stop_sequence", "stop"), ("length", "length"), ("stop", "stop")]
)
def test_the_words_of_other_servers_for_an_end_are_read(word, reason):
    assert folded(read(text("a"), *end(word))).finished.reason == reason


@pytest.mark.parametrize(("told", "stop"), [("b", "b"), (7, 7), ("other", None), (None, None)])
def test_a_stop_that_was_met_is_named_where_the_server_does(told, stop):
    frames = [text("a"), choice(finish_reason="stop", stop_reason=told), {"choices": [], "usage": USAGE}]
    events = read(*frames, request=asked(stop=("b", "c"), stop_token_ids=(7,)))
    assert folded(events).finished.stop == stop


def test_tokens_have_their_logprobs_bytes_and_ids():
    euro = {"token": "\ufffd", "logprob": -1.0, "bytes": [226, 130], "top_logprobs": []}
    other = {"token": "b", "logprob": 0.0, "bytes": [98]}
    content = [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [other, other, other]}, euro]
    frames = [text("a", logprobs={"content": content}, token_ids=[5, 6]), *end()]
    answer = folded(read(*frames, request=asked(logprobs=2)))
    top = TokenLogprob(-1, "b", 0.0)
    assert answer.logprobs == (TokenLogprob(5, "a", -0.5, (top, top)), TokenLogprob(6, "\ufffd", -1.0, (), b"\xe2\x82"))
    assert answer.finished.usage == Usage(3, 2), "tokens that are told are counted"


def test_a_completions_lists_of_logprobs_are_read():
    told = {"tokens": ["a", "bytes:\\xe2\\x82"], "token_logprobs": [-0.5, None], "text_offset": [0, 1]}
    told["top_logprobs"] = [{"a": -0.5, "b": -0.25, "c": -9}, None]
    frames = [{"choices": [{"text": "a", "logprobs": told, "finish_reason": "stop"}], "usage": USAGE}]
    answer = folded(read(*frames, request=asked(Completion("x"), logprobs=2)))
    top = (TokenLogprob(-1, "b", -0.25), TokenLogprob(-1, "a", -0.5))
    assert answer.logprobs == (TokenLogprob(-1, "a", -0.5, top), TokenLogprob(-1, "\ufffd", 0.0, (), b"\xe2\x82"))


def test_ids_are_told_where_they_are_asked_for():
    first = choice({"content": "", "role": "assistant"}, prompt_token_ids=[1, 2])
    frames = [first, text("ab", token_ids=[8, 9]), *end()]
    events = read(*frames, request=asked(token_ids=True))
    answer = folded(events)
    assert (answer.ids, answer.text, answer.finished.usage.completion_tokens) == ((8, 9), "ab", 2)
    assert not [event for event in read(*frames) if isinstance(event, TokenDelta)]


def test_the_scores_of_a_prompt_are_told_with_their_texts():
    table = {"5": {"logprob": -2.0, "rank": 3, "decoded_token": "b"}, "6": {"logprob": -1.0, "rank": 1}}
    whole = {"choices": [{"text": "x", "finish_reason": "length", "prompt_logprobs": [None, table]}], "usage": USAGE}
    whole["choices"][0]["prompt_token_ids"] = [4, 5]
    reader = AnswerReader(asked(Completion("ab"), prompt_logprobs=1), 50)
    (started, *_) = reader.whole(json.dumps(whole).encode())
    assert started.prompt_logprobs == (
        TokenLogprob(4, "a", 0.0),
        TokenLogprob(5, "b", -2.0, (TokenLogprob(6, "", -1.0),)),
    )
    assert started.prompt_ids is None


@pytest.mark.parametrize("told", [{}, {"prompt_logprobs": [None]}, {"prompt_token_ids": [1]}])
def test_a_prompt_that_is_not_scored_is_a_typed_error(told):
    reader = AnswerReader(asked(Completion("ab"), prompt_logprobs=1), 50)
    whole = {"choices": [{"text": "x", "finish_reason": "length", **told}], "usage": USAGE}
    with pytest.raises(UpstreamFailed, match="score"):
        reader.whole(json.dumps(whole).encode())


def test_a_whole_conversation_is_one_frame():
    message = {"role": "assistant", "content": "Yes", "reasoning_content": "Hm"}
    whole = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": USAGE}
    reader = AnswerReader(asked(), 50)
    assert folded(reader.whole(json.dumps(whole).encode())).text == "Yes"


def test_an_answer_without_an_end_is_ended():
    with pytest.raises(UpstreamFailed, match="does not end"):
        read(*[text("a")] * 30, most=5)
    with pytest.raises(UpstreamFailed, match="does not end"):
        read(*[choice({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]})] * 30, most=5)


def test_a_usage_beyond_the_limit_is_no_usage():
    with pytest.raises(UpstreamFailed, match="counts more"):
        read(text("a"), *end(usage={"prompt_tokens": 1, "completion_tokens": 1_000_000}), most=5)
    assert folded(read(text("a"), *end(usage={"prompt_tokens": 1, "completion_tokens": 6}), most=5))
