"""Vectors and scores of other servers: what they are sent, and what their answers may be."""

import asyncio
import base64
import contextlib
from array import array

import pytest
from aiohttp import web

from gateway.engine import (
    Capability,
    Completion,
    ContextTooLong,
    DeadlineExceeded,
    EmbedRequest,
    LoadFailed,
    ScoreRequest,
    Tokens,
    Unsupported,
    UpstreamFailed,
)
from gateway_openai import Settings, build

ONE, TWO = array("f", (1.0, 2.0)).tobytes(), array("f", (3.0, 4.0)).tobytes()


@contextlib.asynccontextmanager
async def serving(answer, status=200, seconds=0.0):
    """Answer each request with one body, and keep what was asked."""
    asked = []

    async def take(request):
        asked.append((request.path, await request.json()))
        await asyncio.sleep(seconds)
        return web.json_response(answer, status=status)

    application = web.Application()
    for path in ("/v1/embeddings", "/v1/rerank", "/score"):
        application.router.add_post(path, take)
    runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", asked
    finally:
        await runner.cleanup()


def engine(url, task="embed", server="openai"):
    return build(Settings(base_url=url, server=server, task=task, models={"m": "theirs"}, context_window=64))


def texts(*given):
    return tuple(Completion(one) if isinstance(one, str) else Tokens(one) for one in given)


def embedding(*inputs, **more):
    return EmbedRequest(id="r", model="m", inputs=texts(*inputs), **more)


def scoring(*documents, queries=("q",), **more):
    return ScoreRequest(id="r", model="m", documents=texts(*documents), queries=texts(*queries), **more)


def vectors(*given):
    return {"data": [{"index": at, "embedding": one} for at, one in given], "usage": {"prompt_tokens": 7}}


async def test_vectors_come_in_the_order_of_the_texts_as_bytes_or_numbers():
    told = vectors((1, [3.0, 4.0]), (0, base64.b64encode(ONE).decode()))
    async with serving(told) as (url, asked), engine(url) as running:
        assert running.models()[0].capabilities == {Capability.EMBEDDING}
        made = await running.embed(embedding("a", (1, 2), dimensions=2, truncate=64))
    assert (made.vectors, made.prompt_tokens) == ((ONE, TWO), 7)
    body = {"model": "theirs", "input": ["a", [1, 2]], "encoding_format": "base64", "dimensions": 2}
    assert asked == [("/v1/embeddings", body)]


@pytest.mark.parametrize(
    ("more", "param"), [({"role": "query"}, "role"), ({"truncate": 9}, "truncate"), ({"dimensions": 3}, "dimensions")]
)
async def test_what_a_server_has_no_words_for_is_refused(more, param):
    async with serving(vectors((0, [1.0, 2.0]))) as (url, _), engine(url) as running:
        with pytest.raises(Unsupported) as refused:
            await running.embed(embedding("a", **more))
    assert refused.value.param == param


@pytest.mark.parametrize(
    "told",
    [
        {},
        vectors(),
        vectors((0, [1.0]), (0, [1.0])),
        vectors((1, [1.0])),
        vectors((0, "no base64")),
        vectors((0, base64.b64encode(b"abc").decode())),
    ],
)
async def test_nonsense_is_the_servers_failure(told):
    async with serving(told) as (url, _), engine(url) as running:
        with pytest.raises(UpstreamFailed):
            await running.embed(embedding("a"))


async def test_a_refusal_is_told_in_our_words():
    error = {"error": {"message": "maximum context length is 64", "code": None}}
    async with serving(error, 400) as (url, _), engine(url) as running:
        with pytest.raises(ContextTooLong):
            await running.embed(embedding("a"))


async def test_a_request_has_its_time():
    async with serving({}, seconds=20) as (url, _), engine(url) as running:
        with pytest.raises(DeadlineExceeded):
            await running.embed(embedding("a", timeout=0.1))


async def test_vllm_scores_pairs():
    told = {"data": [{"index": 1, "score": 4.0}, {"index": 0, "score": 3.0}], "usage": {"total_tokens": 5}}
    async with serving(told) as (url, asked), engine(url, "score", "vllm") as running:
        assert Capability.SCORE in running.models()[0].capabilities
        made = await running.score(scoring("a", "b", raw=True, truncate=9))
        with pytest.raises(Unsupported) as refused:
            await running.score(scoring("a", truncate_documents=3))
    assert (made.rows, made.prompt_tokens) == ((TWO[:4], TWO[4:]), 5)
    body = {"model": "theirs", "text_1": ["q"], "text_2": ["a", "b"]}
    assert asked == [("/score", body | {"truncate_prompt_tokens": 9, "use_activation": False})]
    assert refused.value.param == "truncate_documents"


async def test_llama_server_ranks_documents():
    told = {"results": [{"index": 1, "relevance_score": 4.0}, {"index": 0, "relevance_score": 3.0}]}
    async with serving(told) as (url, asked), engine(url, "score", "llama-server") as running:
        made = await running.score(scoring("a", "b", truncate=64))
        with pytest.raises(Unsupported) as refused:
            await running.score(scoring("a", "b", queries=("q", "p")))
    assert made.rows == (TWO[:4], TWO[4:])
    assert asked == [("/v1/rerank", {"model": "theirs", "query": "q", "documents": ["a", "b"], "top_n": 2})]
    assert refused.value.param == "query"


async def test_a_server_that_is_not_known_to_score_is_refused_at_load():
    with pytest.raises(LoadFailed, match="'ollama' is not known to score"):
        async with engine("http://127.0.0.1:9/v1", "score", "ollama"):
            pass
