import asyncio
from types import SimpleNamespace

import pytest

from gateway.api.http import frame_writer
from gateway.api.http.frame_writer import FrameWriter

SOON = 0.001


class Reader:
    """Takes what is sent, once it may."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.ended = False
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.asked, self.got = asyncio.Event(), asyncio.Event()
        self.fault: Exception | None = None

    async def send(self, message) -> None:
        self.asked.set()
        await self.may_read.wait()
        if self.fault is not None:
            raise self.fault
        assert not self.ended
        self.bodies.append(message["body"])
        self.ended = not message["more_body"]
        self.got.set()

    async def has(self, body: bytes) -> None:
        while b"".join(self.bodies) != body:
            self.got.clear()
            await self.got.wait()


class Clock:
    """Stands still unless it is told to go on; timers are the loop's own, and look at it again and again."""

    now = 0.0

    def pass_by(self) -> None:
        self.now += 2 * SOON


@pytest.fixture
async def reader():
    return Reader()


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(frame_writer, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


async def write(writer: FrameWriter, frames: bytes) -> None:
    for frame in frames:
        await writer.write(bytes([frame]))


async def test_the_first_frames_go_at_once_and_others_with_the_end(reader):
    writer = FrameWriter(reader.send, SOON)
    await write(writer, b"abcdefg")
    assert reader.bodies == [b"a", b"b", b"c", b"d"]
    await writer.end()
    assert reader.bodies[4:] == [b"efg"]
    assert reader.ended
    writer.drop()


async def test_without_a_time_each_frame_is_a_write(reader):
    writer = FrameWriter(reader.send, 0)
    await write(writer, b"abcdefg")
    await writer.end()
    assert reader.bodies == [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b""]


async def test_a_write_has_64_frames_at_most(reader):
    writer = FrameWriter(reader.send, SOON)
    await write(writer, b"abcd" + b"x" * 130)
    assert reader.bodies[4:] == [b"x" * 64, b"x" * 64]
    writer.drop()


async def test_a_frame_that_waits_goes_without_another_one(reader, clock):
    writer = FrameWriter(reader.send, SOON)
    await write(writer, b"abcdefg")
    await asyncio.sleep(3 * SOON)
    assert reader.bodies == [b"a", b"b", b"c", b"d"]
    clock.pass_by()
    await reader.has(b"abcdefg")
    await write(writer, b"hij")
    clock.pass_by()
    await reader.has(b"abcdefghij")
    await writer.end()
    assert reader.bodies[4:] == [b"efg", b"hij", b""]


async def test_a_frame_after_a_pause_goes_at_once_with_those_that_waited(reader, clock):
    writer = FrameWriter(reader.send, SOON)
    await write(writer, b"abcde")
    clock.pass_by()
    await write(writer, b"fg")
    assert reader.bodies[4:] == [b"ef"]
    writer.drop()


async def test_what_comes_while_a_late_write_is_on_its_way_comes_behind_it(reader, clock):
    writer = FrameWriter(reader.send, SOON)
    await write(writer, b"abcde")
    reader.may_read.clear()
    reader.asked.clear()
    clock.pass_by()
    await reader.asked.wait()
    following = asyncio.create_task(write(writer, b"fgh"))
    await asyncio.sleep(2 * SOON)
    assert not following.done()
    reader.may_read.set()
    await following
    await writer.end()
    assert b"".join(reader.bodies) == b"abcdefgh"
    assert reader.ended


async def test_an_interjection_keeps_the_order_and_leaves_nothing_behind(reader, clock):
    writer = FrameWriter(reader.send, SOON)
    await write(writer, b"abcdefg")
    reader.may_read.clear()
    reader.asked.clear()
    writer.interject(b"!")
    await reader.asked.wait()
    await writer.write(b"h")
    clock.pass_by()  # the time of what was held comes while the interjection is on its way
    await asyncio.sleep(3 * SOON)
    reader.may_read.set()
    await reader.has(b"abcdefg!")
    clock.pass_by()
    await reader.has(b"abcdefg!h")
    writer.drop()


async def test_nothing_is_interjected_where_a_write_is_on_its_way(reader):
    writer = FrameWriter(reader.send, 0)
    reader.may_read.clear()
    writing = asyncio.create_task(writer.write(b"a"))
    await reader.asked.wait()
    assert writer.steps % 2
    writer.interject(b"!")
    reader.may_read.set()
    await writing
    await writer.end()
    assert reader.bodies == [b"a", b""]


async def test_an_error_of_a_late_write_is_the_next_ones(reader, clock):
    writer = FrameWriter(reader.send, SOON)
    await write(writer, b"abcde")
    reader.fault = ConnectionError("gone")
    reader.asked.clear()
    clock.pass_by()
    await reader.asked.wait()
    with pytest.raises(ConnectionError):
        await writer.end()


async def test_nothing_is_written_after_it_was_dropped(reader, clock):
    writer = FrameWriter(reader.send, SOON)
    await write(writer, b"abcde")
    writer.drop()
    clock.pass_by()
    await asyncio.sleep(3 * SOON)
    assert reader.bodies == [b"a", b"b", b"c", b"d"]
