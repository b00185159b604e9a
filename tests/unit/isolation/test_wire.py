"""Whatever two processes say to each other arrives as it was said, or ends the connection."""

import contextlib
import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine import (
    Chat,
    Choice,
    Completion,
    Delta,
    Finished,
    FinishReason,
    GenerateRequest,
    Grammar,
    Health,
    Image,
    JsonObject,
    JsonSchema,
    Message,
    ModelCard,
    Regex,
    Sampling,
    Started,
    Status,
    Text,
    TokenLogprob,
    Tokens,
    Tool,
    ToolCall,
    ToolDelta,
    ToolResult,
    Usage,
    border,
)
from gateway.isolation import wire

# Hypothesis makes lone surrogates too, which UTF-8 cannot say.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
INTEGER = st.integers(-(2**63), 2**64 - 1)
NUMBER = st.floats(allow_nan=False)
JSON = st.recursive(st.none() | st.booleans() | INTEGER | NUMBER | TEXT, lambda inner: st.lists(inner, max_size=3))
SCHEMA = st.dictionaries(TEXT, JSON, max_size=3)
LOGPROB = st.builds(TokenLogprob, INTEGER, TEXT, NUMBER)


def some(strategy):
    return st.lists(strategy, max_size=3).map(tuple)


PART = st.one_of(
    st.builds(Text, TEXT),
    st.builds(Image, st.binary(max_size=64), TEXT),
    st.builds(ToolCall, TEXT, TEXT, TEXT),
    st.builds(ToolResult, TEXT, TEXT),
)
MESSAGE = st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), some(PART))
PROMPT = st.one_of(
    st.builds(Chat, some(MESSAGE), some(st.builds(Tool, TEXT, TEXT, SCHEMA)), TEXT),
    st.builds(Completion, TEXT),
    st.builds(Tokens, some(INTEGER)),
)
CONSTRAINT = st.one_of(
    st.builds(JsonSchema, SCHEMA),
    st.builds(JsonObject),
    st.builds(Regex, TEXT),
    st.builds(Choice, some(TEXT)),
    st.builds(Grammar, TEXT),
)
SAMPLING = st.builds(
    Sampling,
    max_tokens=st.none() | INTEGER,
    temperature=st.none() | NUMBER,
    logit_bias=st.none() | st.dictionaries(INTEGER, NUMBER, max_size=3),
    stop=st.none() | some(TEXT),
    ignore_eos=st.none() | st.booleans(),
)
REQUEST = st.builds(
    GenerateRequest,
    id=TEXT,
    model=TEXT,
    prompt=PROMPT,
    sampling=SAMPLING,
    defaults=SAMPLING,
    constraint=st.none() | CONSTRAINT,
    timeout=st.none() | NUMBER,
    priority=INTEGER,
    trace=st.none() | TEXT,
    salt=TEXT,
)
RAW = JSON.map(border.to_raw)
CALL = st.one_of(
    st.builds(wire.Generate, INTEGER, REQUEST),
    st.builds(wire.Question, INTEGER, TEXT, RAW),
    st.builds(wire.Cancel, INTEGER),
)
STATUS = st.builds(Status, health=st.sampled_from(Health), detail=TEXT, running=INTEGER)
FAILURE = st.builds(border.Failure, TEXT, TEXT, st.none() | TEXT, st.none() | NUMBER)
REPLY = st.one_of(
    st.builds(Started, INTEGER, INTEGER, NUMBER, NUMBER, st.none() | some(LOGPROB)),
    st.builds(Delta, TEXT, INTEGER, TEXT, some(LOGPROB)),
    st.builds(ToolDelta, INTEGER, TEXT, TEXT, TEXT, INTEGER),
    st.builds(Finished, st.sampled_from(FinishReason), st.builds(Usage, INTEGER, INTEGER), st.none() | TEXT | INTEGER),
    st.builds(wire.Scores, some(LOGPROB)),
    st.builds(border.Ended),
    FAILURE,
    st.builds(border.Result, RAW),
)
CARD = st.builds(
    ModelCard,
    name=TEXT,
    context_window=INTEGER,
    capabilities=st.just(frozenset()),
    aliases=some(TEXT),
    defaults=SAMPLING,
)
SAID = st.one_of(
    st.builds(wire.ReplyBatch, st.lists(st.tuples(INTEGER, REPLY), max_size=4)),
    st.builds(wire.EngineLoaded, some(CARD)),
    st.builds(wire.LoadError, FAILURE),
    st.builds(wire.Heartbeat, INTEGER, INTEGER, STATUS),
)


def bodies(data: bytes, cuts: list[int]) -> list[bytes]:
    frames = wire.Frames()
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [body for start, end in itertools.pairwise(edges) for body in frames.feed(data[start:end])]


@given(st.lists(CALL, min_size=1, max_size=3), st.lists(st.integers(0, 2**16), max_size=12))
def test_a_call_arrives_as_it_was_sent_wherever_it_is_cut(calls, cuts):
    data = b"".join(map(wire.pack, calls))
    assert [wire.read_call(body) for body in bodies(data, cuts)] == calls


@given(st.lists(SAID, min_size=1, max_size=3), st.lists(st.integers(0, 2**16), max_size=12))
def test_a_message_arrives_as_it_was_sent_wherever_it_is_cut(messages, cuts):
    data = b"".join(map(wire.pack, messages))
    assert [wire.read_message(body) for body in bodies(data, cuts)] == messages


def test_a_frame_that_comes_byte_by_byte_arrives():
    data = wire.pack(wire.Cancel(1)) + wire.pack(wire.Cancel(2))
    read = [wire.read_call(body) for body in bodies(data, list(range(len(data))))]
    assert read == [wire.Cancel(1), wire.Cancel(2)]


@given(st.binary(max_size=64))
def test_no_bytes_are_worse_than_malformed(body):
    for read in (wire.read_call, wire.read_message):
        with contextlib.suppress(border.MalformedFrame):
            read(body)


@pytest.mark.parametrize("body", [b"", b"\x91" * 100_000, msgspec.msgpack.encode(["cancel", 1, 2]), b"\xa1\xff"])
def test_what_is_no_frame_is_malformed(body):
    for read in (wire.read_call, wire.read_message):
        with pytest.raises(border.MalformedFrame):
            read(body)


def test_a_frame_over_the_cap_is_malformed_before_it_has_come():
    with pytest.raises(border.MalformedFrame, match="17 bytes; 16"):
        list(wire.Frames(16).feed((17).to_bytes(4, "big")))


def test_a_frame_at_the_cap_arrives():
    assert list(wire.Frames(16).feed((16).to_bytes(4, "big") + b"x" * 16)) == [b"x" * 16]


@pytest.mark.parametrize("text", ["\ud800", pytest.param("x" * wire.MOST_BYTES, id="long")])
def test_what_cannot_be_sent_is_said_to_be(text):
    with pytest.raises(border.Unsendable):
        wire.pack(wire.Question(1, "count_tokens", border.to_raw(("m", Completion(text)))))


def test_a_number_beyond_64_bits_cannot_be_sent():
    with pytest.raises(border.Unsendable):
        wire.pack(wire.Cancel(2**64))
