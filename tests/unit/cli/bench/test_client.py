"""One request over HTTP: what it finds, and how it fails."""

import pytest

from gateway.cli.bench.client import Client
from gateway.cli.bench.plan import Plan
from gateway.cli.bench.target import TargetError
from tests.support.upstream import Upstream


def plan(server, **changes):
    return Plan(url=server.url, levels=(), prompt_words=20, output_tokens=6, **changes)


async def asked(server, **changes):
    async with Client(plan(server, **changes)) as client:
        return await client.ask(0)


async def test_an_answer_is_timed_and_its_tokens_are_the_servers():
    async with Upstream(tokens_per_frame=2) as server:
        sample = await asked(server)
    assert sample.error is None
    assert (sample.prompt_tokens, sample.output_tokens, sample.cached_tokens) == (100, 6, 10)
    assert sample.frames == 3
    assert len(sample.gaps) == 2
    assert sample.due == sample.sent <= sample.first <= sample.last <= sample.ended


async def test_a_due_time_is_kept():
    async with Upstream() as server, Client(plan(server)) as client:
        sample = await client.ask(0, 1.5)
    assert sample.due == 1.5
    assert sample.sent > 1.5


async def test_a_number_is_a_prompt_of_its_own():
    async with Upstream() as server, Client(plan(server)) as client:
        for number in (0, 1, 0):
            await client.ask(number)
    first, second, again = (body["messages"][0]["content"] for body in server.measured)
    assert len(first.split()) == 20
    assert first == again != second


async def test_a_key_is_sent_as_a_bearer_token():
    async with Upstream() as server:
        await asked(server, api_key="secret")
    assert server.keys == {"Bearer secret"}


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"statuses": (429,)}, "429 too_busy"),
        ({"fault": "error"}, "in the stream: engine_failed"),
        ({"fault": "cut"}, "broken off"),
    ],
    ids=str,
)
async def test_what_fails_is_in_the_sample(settings, error):
    async with Upstream(**settings) as server:
        sample = await asked(server)
    assert sample.error == error
    assert sample.ended >= sample.sent


async def test_an_answer_that_takes_too_long_is_a_timeout():
    async with Upstream() as server, Client(plan(server, timeout=0.5)) as client:
        server.fault = "hang"
        sample = await client.ask(0)
    assert sample.error == "timeout"


async def test_a_server_that_went_away_is_no_exception():
    async with Upstream() as server:
        client = Client(plan(server))
        await client.__aenter__()
    try:
        sample = await client.ask(0)
    finally:
        await client.__aexit__()
    assert sample.error in ("cannot connect", "connection lost")


async def test_a_client_that_finds_no_server_leaves_nothing_open():
    async with Upstream(paths=()) as server:
        client = Client(plan(server))
        with pytest.raises(TargetError):
            await client.__aenter__()
        assert client._session.closed
