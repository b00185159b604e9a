"""Finding out what there is to measure."""

import json
import socket

import aiohttp
import pytest

from gateway.cli.bench.plan import Plan
from gateway.cli.bench.target import PATHS, BenchTarget, TargetError, find
from tests.support.upstream import MODEL, Upstream


async def found(url, **changes):
    async with aiohttp.ClientSession() as session:
        return await find(Plan(url=url, levels=(), **changes), session)


@pytest.mark.parametrize("api", ["chat", "completions"])
async def test_the_dialect_and_the_model_are_found(api):
    async with Upstream(paths=(PATHS[api],)) as server:
        target = await found(server.url)
    assert target == BenchTarget(url=server.url + PATHS[api], api=api, model=MODEL)


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/", "/v1/completions"])
async def test_the_url_may_be_the_servers_the_versions_or_the_endpoints(end):
    async with Upstream(paths=(PATHS["completions"],)) as server:
        assert (await found(server.url + end)).url == f"{server.url}/v1/completions"


async def test_what_is_named_is_taken():
    async with Upstream(paths=tuple(PATHS.values()), models=()) as server:
        target = await found(server.url, api="completions", model="other")
    assert (target.api, target.model) == ("completions", "other")


async def test_a_server_without_a_list_of_models_is_asked_without_one():
    async with Upstream(models=()) as server:
        assert (await found(server.url)).model is None
    assert "model" not in server.bodies[0]


async def test_fields_that_the_server_refuses_are_left_out():
    async with Upstream(unknown=frozenset({"ignore_eos"})) as server:
        target = await found(server.url)
    assert (target.exact, target.usage) == (False, True)
    async with Upstream(unknown=frozenset({"min_tokens", "stream_options"})) as server:
        target = await found(server.url)
    assert (target.exact, target.usage) == (False, False)


async def test_a_server_that_refuses_everything_is_asked_for_all():
    async with Upstream(unknown=frozenset({"max_tokens"})) as server:
        target = await found(server.url)
    assert (target.exact, target.usage) == (True, True)


async def test_no_dialect_no_server_and_no_url_are_said_in_one_line():
    async with Upstream(paths=("/v1/other",)) as server:
        with pytest.raises(TargetError, match="has none of /v1/generate"):
            await found(server.url)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(TargetError, match="cannot reach"):
            await found(f"http://127.0.0.1:{free.getsockname()[1]}")
    for url in ("localhost:8000", "ftp://x", ""):
        with pytest.raises(TargetError, match="no http URL"):
            await found(url)


async def test_an_endpoint_of_another_dialect_is_a_contradiction():
    with pytest.raises(TargetError, match="--api chat"):
        await found("http://127.0.0.1:9/v1/chat/completions", api="native")


@pytest.mark.parametrize("api", PATHS)
def test_an_exact_answer_has_its_length_asked_from_both_sides(api):
    body = json.loads(BenchTarget(url="", api=api, model="m").body("hi", 7, 0.5))
    native = api == "native"
    assert body["ignore_eos"] is True
    assert body["max_new_tokens" if native else "max_tokens"] == body["min_new_tokens" if native else "min_tokens"] == 7
    assert (body["stream"], body["temperature"], body["model"]) == (True, 0.5, "m")
    assert native or body["stream_options"] == {"include_usage": True}


def test_a_bare_request_has_nothing_that_openai_does_not_know():
    body = json.loads(BenchTarget(url="", api="chat", model="m", exact=False, usage=False).body("hi", 7, 0.0))
    assert body.keys() == {"stream", "temperature", "model", "messages", "max_tokens"}
    assert body["messages"] == [{"role": "user", "content": "hi"}]


def test_the_gateways_own_dialect_does_not_send_the_prompt_back():
    assert json.loads(BenchTarget(url="", api="native").body("hi", 7, 0.0))["return_full_text"] is False
