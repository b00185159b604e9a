"""Each time-out by itself: the others are so long that the test would end first."""

import asyncio
import socket
from contextlib import aclosing

import msgspec
import pytest

from gateway.engine import Completion, DeadlineExceeded, GenerateRequest, Started, UpstreamFailed, collect
from gateway_openai import Settings, build
from tests.support.scripted_upstream import GOOD, HEAD, TEXT, Script, behind, said

REQUEST = GenerateRequest(id="1", model="m", prompt=Completion("x"))
LONG = {"connect_seconds": 3600, "first_byte_seconds": 3600, "idle_seconds": 3600}


async def fails(script, match, request=REQUEST, **settings):
    async with asyncio.timeout(60), behind(script, **(LONG | settings)) as engine:
        with pytest.raises((UpstreamFailed, DeadlineExceeded), match=match) as caught:
            await collect(engine.generate(request))
        assert (await engine.status()).running == 0
        await script.left.wait()
        return caught.value


@pytest.mark.parametrize("sent", [b"", HEAD], ids=["nothing", "a head"])
async def test_an_answer_that_does_not_begin_is_given_up_after_the_time_for_its_first_byte(sent):
    await fails(Script(sent, still=True), "in time", first_byte_seconds=0.2)


async def test_an_answer_that_stops_is_given_up_after_the_time_between_bytes():
    await fails(Script(HEAD + said("a"), still=True), "in time", idle_seconds=0.2)


async def test_an_answer_may_take_longer_to_begin_than_between_its_bytes():
    script = Script(b"", HEAD, GOOD.removeprefix(HEAD), pause=0.4)
    async with asyncio.timeout(60), behind(script, **(LONG | {"idle_seconds": 0.2})) as engine:
        assert (await collect(engine.generate(REQUEST))).text == TEXT


async def test_an_answer_may_take_longer_than_its_beginning_had_time():
    script = Script(HEAD + said("a"), said("b"), said("c"), GOOD.removeprefix(HEAD), pause=0.7)
    async with asyncio.timeout(60), behind(script, **(LONG | {"first_byte_seconds": 1.8})) as engine:
        assert (await collect(engine.generate(REQUEST))).text == f"abc{TEXT}"


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + said("a")], ids=["nothing", "a head", "a piece"])
async def test_the_requests_deadline_ends_it_whatever_the_others(sent):
    request = msgspec.structs.replace(REQUEST, timeout=0.3)
    error = await fails(Script(sent, still=True), "time ran out", request)
    assert isinstance(error, DeadlineExceeded)


async def test_the_requests_deadline_ends_an_answer_that_goes_on():
    request = msgspec.structs.replace(REQUEST, timeout=0.5)
    script = Script.endless(HEAD, again=said("a"), pause=0.01)
    error = await fails(script, "time ran out", request, context_window=1_000_000)
    assert isinstance(error, DeadlineExceeded)


async def test_a_refusal_that_does_not_end_is_given_up():
    head = b"HTTP/1.1 400 No\r\ncontent-length: 99\r\n\r\nhalf"
    await fails(Script(head, still=True), "in time", first_byte_seconds=0.2)


async def test_a_connection_that_is_not_made_is_given_up_after_its_own_time():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for other in waiting:
            other.setblocking(False)  # noqa: FBT003 - the library's own
            other.connect_ex(address)
        known = {"base_url": f"http://127.0.0.1:{address[1]}/v1", "server": "openai", "models": {"m": "m"}}
        settings = msgspec.convert(LONG | known | {"connect_seconds": 0.3}, Settings)
        try:
            async with asyncio.timeout(60), build(settings) as engine:
                with pytest.raises(UpstreamFailed, match="cannot be reached"):
                    await collect(engine.generate(REQUEST))
        finally:
            for other in waiting:
                other.close()


async def test_closing_the_stream_closes_the_connection_wherever_it_is():
    for sent in (HEAD + said("a"), HEAD + said("a") + said("b")):
        script = Script(sent, still=True)
        async with asyncio.timeout(60), behind(script, **LONG) as engine:
            async with aclosing(engine.generate(REQUEST)) as stream:
                assert isinstance(await anext(stream), Started)
            await script.left.wait()


@pytest.mark.parametrize("sent", [b"", HEAD], ids=["nothing", "a head"])
async def test_cancelling_the_reader_closes_the_connection_before_an_answer_began(sent):
    script = Script(sent, still=True)
    async with asyncio.timeout(60), behind(script, **LONG) as engine:
        reader = asyncio.create_task(collect(engine.generate(REQUEST)))
        await script.asked.wait()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await script.left.wait()
        assert (await engine.status()).running == 0
