"""Golden transcripts: what the engine tells, and what a client of `/v1/completions` reads of it."""

import pytest
from openai.types import Completion

from gateway.engine import Delta, FinishReason, Started, TokenLogprob
from tests.support.openai_dialect import chunks, finished, rendering, streamed, text, whole

STARTED = Started(7, cached_tokens=2)
USAGE = {
    "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
    },
}  # fmt: skip
HEAD = {"id": "cmpl-1", "object": "text_completion", "created": 1_767_225_600, "model": "m"}
HEAD |= {"system_fingerprint": "fp_53e79feb78"}
HI = (TokenLogprob(4, "h", 0.0), TokenLogprob(5, "i", -0.25, top=(TokenLogprob(6, "o", -0.125),)))
A = TokenLogprob(1, "a", -0.5, top=(TokenLogprob(1, "a", -0.5), TokenLogprob(2, "b", float("-inf"))))
B = TokenLogprob(2, "bc", float("nan"))


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr("gateway.api.openai.render.time.time", lambda: 1_767_225_600.9)


def choice(said, reason="stop", logprobs=None, **fields):
    return {"index": 0, "text": said, "logprobs": logprobs, "finish_reason": reason} | fields


def reply(*choices, **fields):
    return HEAD | {"choices": list(choices)} | fields


def hold(answer):
    """Hold an answer against the SDK's own type, which knows neither an unfinished choice nor a first token."""
    choices = []
    for one in answer["choices"]:
        logprobs = dict(one["logprobs"] or {})
        logprobs["token_logprobs"] = [number or 0 for number in logprobs.get("token_logprobs", ())]
        logprobs["top_logprobs"] = [table or {} for table in logprobs.get("top_logprobs", ())]
        choices.append(one | {"finish_reason": one["finish_reason"] or "stop", "logprobs": logprobs})
    Completion.model_validate(answer | {"choices": choices}, strict=True)
    return answer


def read(body, *events):
    return hold(whole(body, *events))


def follow(body, *events):
    return [hold(each) for each in chunks(body, *events)]


def lists(offset, **fields):
    tokens, numbers, tables = fields["tokens"], fields["numbers"], fields["tables"]
    return {"text_offset": offset, "token_logprobs": numbers, "tokens": tokens, "top_logprobs": tables}


def test_a_whole_text():
    assert read(text(), STARTED, Delta("Hel"), Delta("lo"), finished()) == reply(choice("Hello"), usage=USAGE)


def test_a_streamed_text_to_the_byte():
    body = streamed(text(stream=True), STARTED, Delta("Hel"), Delta(""), Delta("lo"), finished())
    head = (
        b'data: {"id":"cmpl-1","object":"text_completion","created":1767225600,"model":"m",'
        b'"system_fingerprint":"fp_53e79feb78","choices":[{"index":0,"text":'
    )
    assert body.split(b"\n\n") == [
        head + b'"Hel","logprobs":null,"finish_reason":null}]}',
        head + b'"lo","logprobs":null,"finish_reason":null}]}',
        head + b'"","logprobs":null,"finish_reason":"stop"}]}',
        b"",
    ]


def test_a_streamed_text_with_its_prompt_and_its_usage():
    body = text(stream=True, echo=True, stream_options={"include_usage": True})
    assert follow(body, STARTED, Delta("!"), finished(FinishReason.DEADLINE)) == [
        reply(choice("hi", None), usage=None),
        reply(choice("!", None), usage=None),
        reply(choice("", "length"), usage=None),
        reply(usage=USAGE),
    ]


def test_logprobs_are_lists_and_hold_numbers_that_json_has():
    events = (STARTED, Delta("abc", logprobs=(A, B)), finished())
    tables = [{"a": -0.5, "b": -9999.0}, {"bc": -9999.0}]
    logprobs = lists([0, 1], tokens=["a", "bc"], numbers=[-0.5, -9999.0], tables=tables)
    assert read(text(logprobs=2), *events) == reply(choice("abc", logprobs=logprobs), usage=USAGE)


def test_parts_of_a_character_are_said_by_their_bytes_and_begin_where_it_begins():
    first, second = (TokenLogprob(at, "\ufffd", -0.5, raw=bytes([byte])) for at, byte in enumerate("é".encode()))
    events = (
        STARTED,
        Delta("a", logprobs=(A,)),
        Delta("", logprobs=(first,)),
        Delta("é", logprobs=(second,)),
        Delta("bc", logprobs=(B,)),
        finished(),
    )
    whole = read(text(logprobs=1), *events)["choices"][0]["logprobs"]
    assert whole["tokens"] == ["a", "bytes:\\xc3", "bytes:\\xa9", "bc"]
    assert whole["text_offset"] == [0, 1, 1, 2]
    told = [each["choices"][0]["logprobs"] for each in follow(text(logprobs=1, stream=True), *events)[:-1]]
    assert [each["text_offset"] for each in told] == [[0], [1], [1], [2]]


def test_offsets_go_on_from_chunk_to_chunk_and_behind_the_prompt():
    body = text(logprobs=1, echo=True, stream=True)
    started = Started(7, prompt_logprobs=HI)
    told = follow(body, started, Delta("a", logprobs=(A,)), Delta("bc", logprobs=(B,)), finished())
    assert [each["choices"][0]["text"] for each in told] == ["hi", "a", "bc", ""]
    offsets = [each["choices"][0]["logprobs"]["text_offset"] for each in told[:-1]]
    assert offsets == [[0, 1], [2], [3]]
    assert told[0]["choices"][0]["logprobs"] == lists(
        [0, 1], tokens=["h", "i"], numbers=[None, -0.25], tables=[None, {"o": -0.125, "i": -0.25}]
    )


def test_a_prompt_is_scored_without_an_answer():
    body = text(logprobs=1, echo=True, max_tokens=0)
    told = read(body, Started(7, 2, prompt_logprobs=HI), Delta("x", logprobs=(A,)), finished())
    logprobs = lists([0, 1], tokens=["h", "i"], numbers=[None, -0.25], tables=[None, {"o": -0.125, "i": -0.25}])
    usage = USAGE | {"completion_tokens": 0, "total_tokens": 7}
    assert told == reply(choice("hi", "length", logprobs), usage=usage)


def test_a_streamed_prompt_without_an_answer():
    told = follow(text(echo=True, max_tokens=0), STARTED, Delta("x"), finished())
    assert told == [reply(choice("hi", None)), reply(choice("", "length"))]


def test_the_prompts_logprobs_by_the_tokens_ids():
    told = read(text(prompt_logprobs=1), Started(7, 2, prompt_logprobs=HI), Delta("x"), finished())
    ranks = {
        "6": {"logprob": -0.125, "rank": 1, "decoded_token": "o"},
        "5": {"logprob": -0.25, "rank": None, "decoded_token": "i"},
    }
    assert told == reply(choice("x", prompt_logprobs=[None, ranks]), usage=USAGE)


@pytest.mark.parametrize("prompt", [[104, 105], [[104, 105]]])
def test_the_text_of_a_prompt_of_tokens_is_the_engines(prompt):
    told = read(text(prompt=prompt, echo=True), Started(7, 2, prompt_logprobs=HI), Delta("!"), finished())
    assert told == reply(choice("hi!"), usage=USAGE)


def test_each_prompt_is_echoed_before_its_own_answers():
    made = rendering(text(prompt=["one", [4, 5]], n=2, echo=True))
    frames = [made.to_piece(index, Started(1, prompt_logprobs=HI)) for index in range(4)]
    assert [b'"text":"one"' in frame for frame in frames] == [True, True, False, False]
    assert [b'"text":"hi"' in frame for frame in frames] == [False, False, True, True]
    assert all(b'"index":%d' % index in frame for index, frame in enumerate(frames))


def test_an_empty_answer_has_all_that_others_have():
    logprobs = lists([], tokens=[], numbers=[], tables=[])
    assert read(text(logprobs=0), STARTED, finished()) == reply(choice("", logprobs=logprobs), usage=USAGE)


@pytest.mark.parametrize(("reason", "said"), [(FinishReason.STOP, "valid"), (FinishReason.LENGTH, "truncated")])
def test_the_last_chunk_of_an_answer_with_a_shape_says_whether_it_is_whole(reason, said):
    body = text(stream=True, guided_choice=["yes", "no"])
    first, last = chunks(body, STARTED, Delta("yes"), finished(reason))
    assert last["choices"] == [
        {"index": 0, "text": "", "logprobs": None, "finish_reason": reason.value, "x_structured": said}
    ]
    assert "x_structured" not in first["choices"][0]
    assert "x_structured" not in whole(body, STARTED, Delta("yes"), finished())["choices"][0]
