"""Frames are read whatever the pieces, and never in more memory than a bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine import UpstreamFailed
from gateway_openai.frames import MOST_BYTES, FrameReader

STREAM = (
    ": hello\n\ndata: one\n\n"
    "data:two\r\n\r\n"
    "event: x\nid: 7\ndata:  three\ndata: more 🙂\n\n"
    "retry: 5\n\ndata\n\ndata: é漢\u2028\u0085\n\ndata: [DONE]\n\ndata: [DONE]\n\ndata: half"
).encode()
DATA = [b"one", b"two", " three\nmore 🙂".encode(), b"", "é漢\u2028\u0085".encode(), b"[DONE]", b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_split_gives_the_same_events(cuts):
    reader, found, begin = FrameReader(), [], 0
    for cut in [*sorted(cuts), len(STREAM)]:
        found += reader.feed(STREAM[begin:cut])
        begin = cut
    assert found == DATA


def test_bytes_one_by_one_give_the_same_events():
    reader = FrameReader()
    assert [data for byte in STREAM for data in reader.feed(bytes([byte]))] == DATA


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_nonsense_is_read_or_left_out(pieces):
    whole, reader = FrameReader(), FrameReader()
    assert [data for piece in pieces for data in reader.feed(piece)] == whole.feed(b"".join(pieces))


@pytest.mark.parametrize("piece", [b"x" * 65_536, b": " + b"x" * 65_534], ids=["line", "comment"])
def test_a_line_without_an_end_is_refused_in_bounded_memory(piece):
    reader = FrameReader()
    for _ in range(MOST_BYTES // len(piece)):
        reader.feed(piece)
    with pytest.raises(UpstreamFailed, match="bytes"):
        reader.feed(piece)
    assert len(reader._rest) <= MOST_BYTES + len(piece)


def test_an_event_of_lines_without_an_end_is_refused_in_bounded_memory():
    reader = FrameReader()
    lines = b"data: 0123456789\ndata:\n" * 1000
    for _ in range(MOST_BYTES // 12_000):
        reader.feed(lines)
    with pytest.raises(UpstreamFailed, match="bytes"):
        reader.feed(lines)


def test_a_long_line_that_comes_whole_is_refused_too():
    with pytest.raises(UpstreamFailed, match="bytes"):
        FrameReader().feed(b"data: " + b"x" * MOST_BYTES + b"\n\n")
