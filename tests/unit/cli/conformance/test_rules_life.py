"""Whether clients that leave free their places is told of servers with places, of one kind and the other."""

import asyncio
import json

import httpx
import pytest

from gateway.cli.conformance.peer import Peer
from gateway.cli.conformance.rules import RULES, life
from gateway.cli.conformance.run import try_rules

(RULE,) = [each for each in RULES if each.trial is life.a_client_that_leaves_frees_its_place]
FRAME = b'data: {"choices": []}\n\n'
SHORT = {"choices": [{"index": 0, "message": {"content": "red"}, "finish_reason": "length"}]}


class Answer(httpx.AsyncByteStream):
    """A long answer, or one that is over at once, which leaves its place when the client closes it."""

    def __init__(self, leave, *, long=True):
        self._leave, self._long = leave, long

    async def __aiter__(self):
        yield FRAME
        if self._long:
            await asyncio.Event().wait()

    async def aclose(self):
        self._leave()


class Places(httpx.AsyncBaseTransport):
    """A server with so many places. One that `frees` has them back when a client leaves, another keeps on answering."""

    def __init__(self, *, places=4, frees=True, long=True, refuses=False):
        self._free = asyncio.Semaphore(places)
        self._frees, self._long, self._refuses = frees, long, refuses
        self._has_streamed = False

    async def handle_async_request(self, request):
        if request.method == "GET":
            return httpx.Response(200, json={"data": [{"id": "m"}]})
        if not json.loads(request.content).get("stream"):
            if self._has_streamed and self._refuses:
                return httpx.Response(503, json={})
            async with self._free:
                return httpx.Response(200, json=SHORT)
        self._has_streamed = True
        await self._free.acquire()
        return httpx.Response(200, stream=Answer(self._leave, long=self._long))

    def _leave(self):
        if self._frees:
            self._free.release()


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """Wait for what does not come only as long as a test has to."""
    for name, seconds in {"_BEGIN": 0.1, "_BLOCKED": 0.3, "_FREE": 0.5}.items():
        monkeypatch.setattr(life, name, seconds)


async def found(**server):
    async with Peer("http://there", transport=Places(**server)) as peer:
        return await anext(try_rules(peer, [RULE]))


async def test_a_server_that_frees_the_places_keeps_the_rule():
    told = await found()
    assert told.outcome == "holds", told
    assert "none in 0.3 s beside" in told.detail


@pytest.mark.parametrize("server", [{"frees": False}, {"refuses": True}], ids=["keeps its places", "refuses"])
async def test_a_server_that_does_not_is_found(server):
    told = await found(**server)
    assert told.outcome == "broken", told


@pytest.mark.parametrize(
    "server", [{"places": 100, "frees": False}, {"long": False}], ids=["no company is felt", "answers are short"]
)
async def test_what_cannot_be_told_is_said(server):
    told = await found(**server)
    assert told.outcome == "absent", told
