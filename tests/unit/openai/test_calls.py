"""Calls come one after another, however a server tells them."""

import pytest

from gateway.engine import ToolDelta, UpstreamFailed
from gateway_openai.calls import CallReader
from gateway_openai.chunks import FrameCall, FrameFunction


def piece(index=None, id=None, name=None, arguments=None):  # noqa: A002 - as the server calls it
    return FrameCall(index, id, FrameFunction(name, arguments))


def read(*frames):
    reader = CallReader()
    return [delta for frame in frames for delta in reader.read(frame)]


def test_pieces_of_two_calls_are_told_one_after_another():
    found = read(
        [piece(0, "a", "f", "")], [piece(0, None, None, '{"x"')], [piece(0, "", "", ":1}")], [piece(1, "b", "g", "{}")]
    )
    assert found == [
        ToolDelta(0, "", "a", "f"),
        ToolDelta(0, '{"x"'),
        ToolDelta(0, ":1}"),
        ToolDelta(1, "{}", "b", "g"),
    ]


def test_whole_calls_of_one_frame_are_told_whole():
    assert read([piece(0, "a", "f", "{}"), piece(1, "b", "f", "{}")]) == [
        ToolDelta(0, "{}", "a", "f"),
        ToolDelta(1, "{}", "b", "f"),
    ]


def test_a_server_that_says_id_and_name_with_every_piece_is_read():
    assert read([piece(0, "a", "f", "{")], [piece(0, "a", "f", "}")]) == [
        ToolDelta(0, "{", "a", "f"),
        ToolDelta(0, "}"),
    ]


def test_a_server_that_gives_every_call_the_index_0_is_read():
    found = read([piece(0, "a", "f", "{}")], [piece(0, "b", "g", "{}")])
    assert [(delta.index, delta.id, delta.name) for delta in found] == [(0, "a", "f"), (1, "b", "g")]


def test_a_server_without_indices_and_one_that_begins_at_1_are_read():
    found = read([piece(None, "a", "f", "{")], [piece(None, None, None, "}")], [piece(7, "b", "g", "{}")])
    assert [delta.index for delta in found] == [0, 0, 1]


def test_arguments_that_were_read_already_are_written_again():
    assert read([piece(0, "a", "f", {"città": [1]})])[0].arguments == '{"città": [1]}'


def test_an_id_that_is_missing_or_given_twice_is_made_up():
    one, two, three = read([piece(0, None, "f", "{}"), piece(1, "x", "f", "{}"), piece(2, "x", "g", "{}")])
    assert two.id == "x"
    assert len({one.id, two.id, three.id}) == 3
    assert one.id.startswith("call_")


@pytest.mark.parametrize(
    "frames",
    [
        [[piece(0, "a", "f"), piece(1, "b", "g"), piece(0, None, None, "{}")]],
        [[piece(0, "a", "f")], [piece(0, "b", None, "{}")]],
        [[piece(0, "a", None, "{}")]],
        [[FrameCall()]],
        [[piece(number, f"c{number}", "f", "{}") for number in range(129)]],
    ],
    ids=["an earlier call again", "another id for one call", "no name", "nothing", "129 calls"],
)
def test_pieces_that_contradict_each_other_are_a_typed_error(frames):
    with pytest.raises(UpstreamFailed):
        read(*frames)
