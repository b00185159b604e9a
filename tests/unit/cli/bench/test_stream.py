"""Reading streams of every dialect, however their bytes arrive."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.bench.sample import Sample
from gateway.cli.bench.stream import Transcript, refused

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
NATIVE = [{"text": "a"}, {"text": " b"}, {"text": "", "finish_reason": "length", "stop": None, "usage": USAGE}]
CHAT = [
    {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"delta": {"content": "a"}}]},
    {"choices": [{"delta": {"content": " b"}}], "usage": None},
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": USAGE},
]
COMPLETIONS = [{"choices": [{"text": "a"}]}, {"choices": [{"text": "b", "finish_reason": "stop"}]}, {"usage": USAGE}]


def encode(frames, *, done=True, end="\n\n"):
    text = "".join(f"data: {json.dumps(frame)}{end}" for frame in frames)
    return (text + f"data: [DONE]{end}" * done).encode()


def read(*pieces):
    """Feed the pieces, one a second."""
    sample = Sample(due=0.0, sent=0.0)
    transcript = Transcript(sample)
    for second, piece in enumerate(pieces, 1):
        transcript.feed(piece, float(second))
    transcript.close()
    return sample


@pytest.mark.parametrize("frames", [NATIVE, CHAT, COMPLETIONS], ids=["native", "chat", "completions"])
@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n"], ids=["LF", "CRLF"])
def test_every_dialect_is_read(frames, end):
    sample = read(encode(frames, end=end))
    assert sample.error is None
    assert sample.frames == 2
    assert (sample.prompt_tokens, sample.output_tokens, sample.cached_tokens) == (9, 3, 4)


@given(st.lists(st.integers(0, len(encode(CHAT))), max_size=20))
def test_where_the_bytes_are_cut_changes_nothing(cuts):
    data = encode(CHAT)
    edges = [0, *sorted(cuts), len(data)]
    sample = read(*(data[begin:end] for begin, end in pairwise(edges)))
    assert (sample.error, sample.frames, sample.output_tokens) == (None, 2, 3)


def test_the_first_token_is_the_first_text_and_not_the_role():
    sample = read(*(encode([frame], done=False) for frame in CHAT), b"data: [DONE]\n\n")
    assert sample.first == 2.0
    assert sample.gaps == [1.0]
    assert sample.ended == 6.0


def test_thoughts_are_text():
    for name in ("reasoning", "reasoning_content"):
        assert read(encode([{"choices": [{"delta": {name: "hm"}}]}])).frames == 1


def test_tokens_are_never_counted_by_frames():
    sample = read(encode([{"text": "a"}, {"text": "b"}]))
    assert sample.frames == 2
    assert sample.output_tokens is None


def test_comments_and_other_fields_are_passed_over():
    sample = read(b": ping\n\nevent: x\nid: 7\n" + encode(NATIVE))
    assert (sample.error, sample.frames) == (None, 2)


def test_characters_that_python_takes_for_line_ends_are_text():
    data = 'data: {"text": "a\u2028b\x85"}\n\n'.encode() + b"data: [DONE]\n\n"
    assert read(data).error is None


def test_a_server_without_done_is_whole_once_it_says_why_it_ended():
    assert read(encode(COMPLETIONS, done=False)).error is None


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (encode(NATIVE[:2], done=False), "broken off"),
        (encode(NATIVE)[:10], "no stream"),
        (b'{"generated_text": "whole"}', "no stream"),
        (b"", "no stream"),
        (b"data: {nonsense\n\n", "unreadable frame"),
        (b'data: {"choices": 7}\n\n', "unreadable frame"),
        (
            encode([{"text": "a"}, {"error": {"message": "m", "code": "deadline"}}], done=False),
            "in the stream: deadline",
        ),
        (encode([{"error": {"message": "m", "type": "server_error"}}]), "in the stream: server_error"),
        (encode([{"error": "no"}]), "in the stream: error"),
    ],
)
def test_what_is_wrong_with_a_stream_is_said(data, error):
    assert read(data).error == error


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": {"code": "overloaded", "type": "x"}}', "429 overloaded"),
        (b'{"error": {"code": null, "type": "rate_limit_error"}}', "429 rate_limit_error"),
        (b'{"error": "slow down"}', "429 error"),
        (b'{"error": {"code": 429}}', "429"),
        (b'{"code": "busy"}', "429 busy"),
        (b'{"detail": "slow down"}', "429"),
        (b"<html>", "429"),
        (b"[1]", "429"),
    ],
)
def test_a_refusal_is_its_status_and_its_code(body, text):
    assert refused(429, body) == text
