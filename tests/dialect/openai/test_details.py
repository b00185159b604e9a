"""Golden transcripts: what an answer tells beside its text where that is asked for."""

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.engine import Delta, Finished, FinishReason, Started, TokenDelta, TokenLogprob, ToolDelta, Usage
from tests.support.openai_dialect import chat, chunks, finished, rendering, streamed, text, whole

STARTED = Started(7, cached_tokens=2, prefill_seconds=0.5, prompt_ids=(11, 12, 13))
IDS = (TokenDelta("Hel", ids=(5,)), TokenDelta("", ids=(6,)), TokenDelta("lo", tokens=2, ids=(7, 8)))
PLAIN = [Delta("Hel"), Delta(""), Delta("lo", tokens=2)]
LIKELY = TokenLogprob(5, "a", -0.5, top=(TokenLogprob(5, "a", -0.5), TokenLogprob(6, "\ufffd", -1.0, raw=b"\xc3")))
TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [{"type": "text", "text": "I s"}]}]
MAKES = pytest.mark.parametrize("make", [chat, text])


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Half a second passes whenever the clock is read."""
    times = iter(range(1_000))
    monkeypatch.setattr("gateway.api.openai.timings.time.perf_counter", lambda: next(times) / 2)


def counts(usage):
    return usage and (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"])


@MAKES
@pytest.mark.parametrize("extra", [{}, {"stream_options": {"include_usage": True}}])
def test_a_stream_that_asks_for_nothing_is_as_it_was_whatever_the_engine_tells(make, extra):
    body = make(stream=True, **extra)
    assert streamed(body, STARTED, *IDS, finished()) == streamed(body, Started(7, 2), *PLAIN, finished())


def test_a_chat_with_the_ids_of_its_tokens():
    answer = whole(chat(return_token_ids=True), STARTED, *IDS, finished())
    ChatCompletion.model_validate(answer, strict=True)
    assert answer["prompt_token_ids"] == [11, 12, 13]
    assert answer["choices"][0]["token_ids"] == [5, 6, 7, 8]
    plain = whole(chat(), STARTED, *PLAIN, finished())
    assert answer.keys() - plain.keys() == {"prompt_token_ids"}
    assert answer["choices"][0].keys() - plain["choices"][0].keys() == {"token_ids"}


def test_a_streamed_chat_with_the_ids_of_its_tokens():
    told = chunks(chat(stream=True, return_token_ids=True), STARTED, *IDS, finished())
    for each in told:
        ChatCompletionChunk.model_validate(each, strict=True)
    assert [each.get("prompt_token_ids") for each in told] == [[11, 12, 13], None, None, None, None]
    choices = [each["choices"][0] for each in told]
    assert [each.get("token_ids") for each in choices] == [None, [5], [6], [7, 8], None]
    assert [each["delta"].get("content") for each in choices] == ["", "Hel", "", "lo", None]


def test_ids_of_tokens_whose_text_is_a_call_come_beside_it():
    events = (STARTED, TokenDelta("", ids=(5,)), ToolDelta(0, "{}", "c0", "f", 0), finished(FinishReason.TOOL_CALLS))
    told = chunks(chat(stream=True, return_token_ids=True), *events)
    assert [each["choices"][0].get("token_ids") for each in told] == [None, [5], None, None]


def test_a_completion_with_the_ids_of_its_tokens():
    answer = whole(text(return_token_ids=True), STARTED, *IDS, finished())
    Completion.model_validate(answer | {"choices": []}, strict=True)
    assert (answer["choices"][0]["prompt_token_ids"], answer["choices"][0]["token_ids"]) == ([11, 12, 13], [5, 6, 7, 8])
    told = [each["choices"][0] for each in chunks(text(stream=True, return_token_ids=True), STARTED, *IDS, finished())]
    assert [each.get("prompt_token_ids") for each in told] == [[11, 12, 13], None, None, None]
    assert [each.get("token_ids") for each in told] == [[5], [6], [7, 8], None]
    assert [each["text"] for each in told] == ["Hel", "", "lo", ""]


def test_each_of_several_answers_has_its_own_ids():
    made = rendering(chat(stream=True, n=2, return_token_ids=True))
    frames = b"".join(
        made.to_piece(index, event) for event in (STARTED, TokenDelta("a", ids=(5,)), finished()) for index in (0, 1)
    )
    assert frames.count(b'"prompt_token_ids":[11,12,13]') == frames.count(b'"token_ids":[5]') == 2


def test_an_answer_of_no_tokens_has_no_ids():
    started = Started(7, prompt_logprobs=(LIKELY, LIKELY), prompt_ids=(11, 12))
    answer = whole(text(return_token_ids=True, echo=True, max_tokens=0), started, IDS[0], finished())
    assert (answer["choices"][0]["prompt_token_ids"], answer["choices"][0]["token_ids"]) == ([11, 12], [])


def test_tokens_are_named_by_their_ids_and_keep_their_bytes():
    events = (STARTED, Delta("a", logprobs=(LIKELY,)), finished())
    asked = {"return_tokens_as_token_ids": True}
    (token,) = whole(chat(logprobs=True, top_logprobs=2, **asked), *events)["choices"][0]["logprobs"]["content"]
    assert (token["token"], token["bytes"]) == ("token_id:5", [97])
    assert [(top["token"], top["bytes"]) for top in token["top_logprobs"]] == [
        ("token_id:5", [97]),
        ("token_id:6", [0xC3]),
    ]
    logprobs = whole(text(logprobs=2, **asked), *events)["choices"][0]["logprobs"]
    assert (logprobs["tokens"], logprobs["top_logprobs"]) == (["token_id:5"], [{"token_id:5": -0.5, "token_id:6": -1}])
    assert chunks(text(logprobs=2, stream=True, **asked), *events)[0]["choices"][0]["logprobs"] == logprobs


@MAKES
def test_without_logprobs_there_are_no_tokens_to_be_named(make):
    events = (STARTED, Delta("a"), finished())
    assert whole(make(return_tokens_as_token_ids=True), *events) == whole(make(), *events)


@MAKES
def test_every_chunk_says_what_its_answer_used_so_far(make):
    options = {"include_usage": True, "continuous_usage_stats": True}
    told = chunks(make(stream=True, stream_options=options), STARTED, *PLAIN, Finished("stop", Usage(7, 4, 2)))
    used = [counts(each["usage"]) for each in told]
    first = [(7, 0, 7)] if make is chat else []
    assert used == [*first, (7, 1, 8), (7, 2, 9), (7, 4, 11), (7, 4, 11), (7, 4, 11)]
    assert [bool(each["choices"]) for each in told] == [True] * (len(told) - 1) + [False]


@MAKES
def test_without_include_usage_no_chunk_says_it(make):
    told = chunks(make(stream=True, stream_options={"continuous_usage_stats": True}), STARTED, *PLAIN, finished())
    assert all("usage" not in each for each in told)


@MAKES
def test_a_whole_answer_says_how_fast_it_was_made(make):
    answer = whole(make(timings_per_token=True), STARTED, *PLAIN, finished())
    assert answer["timings"] == {
        "cache_n": 2, "prompt_n": 5, "prompt_ms": 500.0, "prompt_per_token_ms": 100.0, "prompt_per_second": 10.0,
        "predicted_n": 3, "predicted_ms": 500.0, "predicted_per_token_ms": 166.667, "predicted_per_second": 6.0,
    }  # fmt: skip
    assert "timings" not in whole(make(), STARTED, *PLAIN, finished())


@MAKES
def test_so_does_every_chunk(make):
    body = make(stream=True, timings_per_token=True, stream_options={"include_usage": True})
    told = [each["timings"] for each in chunks(body, STARTED, *PLAIN, finished())]
    first = [0] if make is chat else []
    assert [each["predicted_n"] for each in told] == [*first, 1, 2, 4, 4, 3]
    assert all(each["prompt_n"] + each["cache_n"] == 7 for each in told)
    at = [each["predicted_ms"] for each in told]
    assert at == sorted(set(at))


def test_an_answer_of_no_tokens_at_all_has_timings_in_numbers():
    timings = whole(chat(timings_per_token=True), Started(0), Finished("stop", Usage(0, 0)))["timings"]
    assert [timings[name] for name in ("prompt_per_token_ms", "prompt_per_second", "predicted_per_token_ms")] == [0] * 3


def test_an_answer_begins_with_the_message_that_it_goes_on_with():
    events = (STARTED, Delta("ee"), finished())
    body = {"messages": TURNS, "echo": True, "continue_final_message": True}
    assert whole(chat(**body), *events)["choices"][0]["message"]["content"] == "I see"
    told = [each["choices"][0]["delta"].get("content") for each in chunks(chat(**body, stream=True), *events)]
    assert told == ["", "I s", "ee", None]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"echo": True}, "ee"),
        ({"echo": True, "add_generation_prompt": False}, "hiee"),
        ({"messages": TURNS, "echo": False}, "ee"),
        ({"messages": TURNS, "echo": True}, "I see"),
        ({"messages": [{"role": "assistant", "content": "I s"}], "echo": True}, "I see"),
    ],
)
def test_only_a_message_of_the_same_side_is_echoed(fields, said):
    assert whole(chat(**fields), STARTED, Delta("ee"), finished())["choices"][0]["message"]["content"] == said
