import asyncio
import gzip
import zlib

import pytest

from gateway.api.http import incoming
from gateway.api.http.incoming import IncomingBody
from gateway.api.http.problems import Problem
from gateway.config import ServerSettings
from gateway.flow.budget import ByteBudget

SETTINGS = ServerSettings(max_body_bytes=2_048, body_seconds=5)


class Client:
    """Sends these pieces of a body, and then no more."""

    def __init__(self, *pieces: bytes, headers=(), settings=SETTINGS) -> None:
        self.left = list(pieces)
        length = sum(map(len, pieces))
        head = [(b"content-length", b"%d" % length), *headers]
        self.body = IncomingBody({"type": "http", "headers": head}, self.receive, settings, ByteBudget(2**25))

    async def receive(self):
        if not self.left:
            await asyncio.Event().wait()
        piece = self.left.pop(0)
        if not isinstance(piece, bytes):
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(self.left)}

    async def read(self) -> bytes:
        text = b""
        while (message := await self.body.receive())["type"] == "http.request":
            text += message["body"]
            if not message["more_body"]:
                break
        return text


async def test_what_nobody_read_is_read_before_the_answer():
    client = Client(b"a" * 1_000, b"b")
    assert not client.body.is_whole
    assert await client.body.drain()
    assert (client.left, client.body.is_whole) == ([], True)


async def test_a_body_that_announces_nothing_is_whole():
    assert Client().body.is_whole


@pytest.mark.parametrize(
    "client",
    [
        Client(b"a" * 2_049),
        Client(headers=[(b"content-length", b"0" * 5_000 + b"2049")]),
        Client(b"a", headers=[(b"expect", b"100-Continue")]),
    ],
    ids=["too long", "too long behind zeros", "not sent yet"],
)
async def test_what_would_take_too_long_is_not_read_before_the_answer(client):
    left = list(client.left)
    assert not await client.body.drain()
    assert client.left == left


async def test_a_client_that_pauses_is_waited_for_only_a_while(monkeypatch):
    monkeypatch.setattr(incoming, "_DRAIN_SECONDS", 0.01)
    client = Client(headers=[(b"content-length", b"9")])
    assert not await client.body.drain()


async def test_a_body_that_came_too_late_is_not_waited_for_again(monkeypatch):
    monkeypatch.setattr(incoming, "_DRAIN_SECONDS", 60)
    settings = ServerSettings(body_seconds=0.01)
    client = Client(headers=[(b"content-length", b"9")], settings=settings)
    with pytest.raises(Problem) as caught:
        await client.read()
    assert caught.value.code == "body_timeout"
    assert not await client.body.drain()


async def test_behind_the_answer_more_is_read_but_not_without_end(monkeypatch):
    monkeypatch.setattr(incoming, "_LINGER_BYTES", 5_000)
    client = Client(*[b"a" * 1_000] * 9)
    await client.body.linger()
    assert len(client.left) == 3


async def test_a_client_that_left_is_not_waited_for():
    client = Client(b"a" * 9)
    client.left.insert(0, None)
    assert await client.body.drain()


PACKED = {
    "gzip": gzip.compress(b"a" * 2_000),
    "x-gzip": gzip.compress(b"a" * 2_000),
    "GZip": gzip.compress(b"a" * 2_000),
    "deflate": zlib.compress(b"a" * 2_000),
    "identity": b"a" * 2_000,
}


@pytest.mark.parametrize("encoding", PACKED)
async def test_a_packed_body_is_unpacked(encoding):
    packed = PACKED[encoding]
    pieces = [packed[at : at + 7] for at in range(0, len(packed), 7)]
    client = Client(*pieces, headers=[(b"content-encoding", encoding.encode())])
    assert await client.read() == b"a" * 2_000


@pytest.mark.parametrize(
    ("packed", "code"),
    [
        (gzip.compress(b"a" * 2_049), "request_too_large"),
        (gzip.compress(b"a" * 2_000)[:-1], "invalid_json"),
        (gzip.compress(b"a" * 2_000) + b"more", "invalid_json"),
        (b'{"prompt":"a"}', "invalid_json"),
        (zlib.compress(b"a"), "invalid_json"),
    ],
    ids=["too large unpacked", "cut off", "more behind it", "not packed", "another encoding"],
)
async def test_a_body_that_unpacks_to_no_body_of_ours_is_refused(packed, code):
    with pytest.raises(Problem) as caught:
        await Client(packed, headers=[(b"content-encoding", b"gzip")]).read()
    assert caught.value.code == code


async def test_a_small_body_does_not_unpack_to_a_huge_one():
    settings = ServerSettings(max_body_bytes=64 * 1024 * 1024)
    packed = gzip.compress(bytes(32 * 1024 * 1024))
    client = Client(packed, headers=[(b"content-encoding", b"gzip")], settings=settings)
    with pytest.raises(Problem, match="100 times") as caught:
        await client.read()
    assert caught.value.code == "request_too_large"


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip, gzip", b"gr\xfc\xdfe"])
async def test_another_encoding_is_refused_with_those_that_are_taken(encoding):
    with pytest.raises(Problem, match="gzip, deflate") as caught:
        await Client(b"a", headers=[(b"content-encoding", encoding)]).read()
    assert (caught.value.status, caught.value.headers["accept-encoding"]) == (415, "gzip, deflate")
