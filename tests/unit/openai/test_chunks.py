"""Frames are read, or a typed error."""

import pytest

from gateway.engine import UpstreamFailed
from gateway_openai.chunks import read_frame


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[1]",
        b"{",
        b'{"choices": [{"delta": {"content": 3}}]}',
        b'{"choices": [{"text": "\xff"}]}',
        b'{"usage": {"prompt_tokens": -1}}',
        b'{"usage": {"prompt_tokens": 1e30}}',
        b"[" * 100_000,
        b'{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": ' + b"[" * 100_000,
    ],
)
def test_a_frame_that_is_none_is_a_typed_error(data):
    with pytest.raises(UpstreamFailed):
        read_frame(data)


def test_a_frame_with_more_than_is_known_is_read():
    frame = read_frame(b'{"id": "x", "error": null, "choices": [{"index": 0, "delta": {"content": "hi", "x": 1}}]}')
    delta = frame.choices[0].delta
    assert delta is not None
    assert delta.content == "hi"


@pytest.mark.parametrize("error", ['{"message": "no"}', '"no"', "[]", "0"])
def test_an_error_in_the_stream_is_told_from_nonsense(error):
    with pytest.raises(UpstreamFailed, match="failed while it answered"):
        read_frame(f'{{"error": {error}, "choices": []}}'.encode())
