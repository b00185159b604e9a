"""Events are small: an array on the wire, no work for the garbage collector."""

import typing

import msgspec
import pytest

from gateway.engine import (
    Delta,
    Finished,
    FinishReason,
    GenerateEvent,
    Started,
    TokenDelta,
    TokenLogprob,
    ToolDelta,
    Usage,
)

EVENTS = typing.get_args(GenerateEvent)


def test_the_stream_has_four_kinds_of_event_and_one_that_tells_more():
    assert set(EVENTS) == {Started, Delta, TokenDelta, ToolDelta, Finished}
    assert issubclass(TokenDelta, Delta)


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_is_a_tagged_array_outside_garbage_collection(event):
    config = event.__struct_config__
    assert config.array_like
    assert not config.gc
    assert config.tag


def test_events_are_told_apart_on_the_wire():
    events = [
        Started(3),
        Delta("hi", logprobs=(TokenLogprob(1, "hi", -0.5, (TokenLogprob(2, "\ufffd", -1.0, raw=b"\xff"),)),)),
        ToolDelta(0, "{}", "call-1", "weather"),
        Finished(FinishReason.STOP, Usage(3, 2), stop="\n"),
        Finished(FinishReason.STOP, Usage(3, 2), stop=7),
    ]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(events), type=list[GenerateEvent]) == events


def test_the_bytes_of_a_token_are_its_texts_unless_they_are_said():
    assert TokenLogprob(1, "é", 0.0).encoded == "é".encode()
    assert TokenLogprob(1, "\ufffd", 0.0, raw=b"\xc3").encoded == b"\xc3"


def test_a_delta_is_one_token_unless_it_says_more():
    assert Delta("a").tokens == 1
    assert ToolDelta(0).tokens == 0


def test_a_later_field_may_be_missing_on_the_wire():
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(["delta", "a"]), type=GenerateEvent) == Delta("a")
