"""The frames of llama-server become the events of one answer."""

import msgspec
import pytest

from gateway.engine import (
    Choice,
    Completion,
    Delta,
    EngineError,
    Finished,
    FinishReason,
    GenerateRequest,
    Sampling,
    Started,
    TokenDelta,
)
from gateway_llamacpp.answer import CompletionReader
from gateway_llamacpp.gguf_header import GgufHeader
from gateway_llamacpp.vocabulary import GgufVocabulary
from tests.support.gguf_file import gguf_bytes

READ = {"prompt_progress": {"total": 3, "cache": 2, "processed": 3, "time_ms": 40}, "tokens": []}
HELLO = {"content": "hello", "tokens": [2], "tokens_predicted": 1}
WORLD = {"content": " world", "tokens": [3], "tokens_predicted": 2}
END = {"stop": True, "stop_type": "limit", "tokens_predicted": 2}


@pytest.fixture
def read(tmp_path):
    path = tmp_path / "small.gguf"
    path.write_bytes(gguf_bytes())
    vocabulary = GgufVocabulary(GgufHeader(path))

    def reading(*frames, constraint=None, **sampling):
        request = GenerateRequest(
            id="r", model="m", prompt=Completion("x"), sampling=Sampling(**sampling), constraint=constraint
        )
        reader = CompletionReader(request, (5, 6, 7), vocabulary)
        return [event for frame in frames for event in reader.take([msgspec.json.encode(frame)])]

    return reading


def text(events):
    return "".join(event.text for event in events if isinstance(event, Delta))


def test_an_answer_begins_with_its_first_token_and_what_the_cache_had(read):
    events = read(READ, HELLO, WORLD, END)
    assert events[0] == Started(3, cached_tokens=2, prefill_seconds=0.04)
    assert events[1:3] == [Delta("hello", 1), Delta(" world", 1)]
    last = events[-1]
    assert last.reason is FinishReason.LENGTH
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.cached_tokens) == (3, 2, 2)


def test_tokens_that_the_server_kept_to_itself_are_counted(read):
    face = {"content": "🙂", "tokens": [5], "tokens_predicted": 2}
    half = {"stop": True, "stop_type": "limit", "tokens_predicted": 3}
    events = read(READ, face, half)
    assert [event.tokens for event in events[1:-1]] == [2, 1]
    assert text(events) == "🙂"


@pytest.mark.parametrize("sampling", [{"logprobs": 1}, {"token_ids": True}])
def test_a_token_that_nothing_is_known_of_is_no_guess(read, sampling):
    face = {"content": "🙂", "tokens": [5], "tokens_predicted": 2}
    with pytest.raises(EngineError):
        read(READ, face, **sampling)


def test_a_stop_string_over_two_frames_ends_the_answer(read):
    events = read(READ, HELLO, WORLD, END, stop=("o w",))
    assert text(events) == "hell"
    assert events[-1] == Finished(FinishReason.STOP, events[-1].usage, "o w")
    assert events[-1].usage.completion_tokens == 2


def test_text_that_was_held_back_is_told_at_the_end(read):
    assert text(read(READ, HELLO, WORLD, END, stop=("world!",))) == "hello world"


def test_a_stop_token_ends_the_answer_and_is_not_shown(read):
    events = read(READ, HELLO, WORLD, END, stop_token_ids=(3,))
    assert text(events) == "hello"
    assert (events[-1].reason, events[-1].stop) == (FinishReason.STOP, 3)
    assert text(read(READ, HELLO, WORLD, END, stop_token_ids=(3,), include_stop_str_in_output=True)) == "hello world"


def test_ids_and_scores_are_told_where_they_are_asked_for(read):
    scored = HELLO | {
        "completion_probabilities": [
            {"id": 2, "logprob": -0.5, "top_logprobs": [{"id": 2, "logprob": -0.5}, {"id": 4, "logprob": -1.0}]}
        ]
    }
    delta = read(READ, scored, logprobs=2, token_ids=True)[1]
    assert isinstance(delta, TokenDelta)
    assert delta.ids == (2,)
    (token,) = delta.logprobs
    assert (token.text, token.logprob, [each.encoded for each in token.top]) == (
        "hello",
        -0.5,
        [b"hello", b"\xf0\x9f\x99"],
    )
    assert read(READ, scored, logprobs=0)[1].logprobs[0].top == ()


def test_an_answer_that_breaks_its_constraint_is_an_error(read):
    ended = END | {"stop_type": "eos"}
    assert read(READ, HELLO, ended, constraint=Choice(("hello",)))[-1].reason is FinishReason.STOP
    with pytest.raises(EngineError, match="none of the choices"):
        read(READ, HELLO, ended, constraint=Choice(("hello world",)))
    assert read(READ, HELLO, END, constraint=Choice(("hello world",)))[-1].reason is FinishReason.LENGTH


def test_an_end_without_a_reason_is_an_error(read):
    with pytest.raises(EngineError):
        read(READ, HELLO, END | {"stop_type": "none"})
