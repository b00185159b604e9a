"""The service before a server that stops, and a client that leaves: the request to the server ends with it."""

import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.support.scripted_upstream import GOOD, HEAD, TEXT, Script, said
from tests.support.service import Service

SETTINGS = "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__"
BODY = {"model": "m", "prompt": "x"}


@asynccontextmanager
async def before(script, **settings):
    """A service, and a client of it, before a script."""
    server = await asyncio.start_server(script.answer, "127.0.0.1", 0)
    known = {"BASE_URL": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", "SERVER": "vllm"}
    known |= {"MODELS": '{"m": "m"}'} | settings
    service = Service(ENGINE="openai", **{f"{SETTINGS}{name}": value for name, value in known.items()})
    await asyncio.to_thread(service.__enter__)
    try:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            yield client
    finally:
        await asyncio.to_thread(service.__exit__)
        server.close()


@pytest.mark.parametrize("begun", [True, False], ids=["in the middle", "before the first token"])
async def test_a_client_that_leaves_closes_the_request_to_the_server(begun):
    script = Script(HEAD + said("a") * begun, still=True)
    async with asyncio.timeout(120), before(script) as client:
        request = client.build_request("POST", "/v1/completions", json=BODY | {"stream": True})
        sending = asyncio.create_task(client.send(request, stream=True))
        await script.asked.wait()
        if begun:
            answer = await sending
            assert "a" in await anext(answer.aiter_text())
            await answer.aclose()
        else:
            sending.cancel()
        await script.left.wait()
        script.left.clear()


async def test_the_time_of_a_request_ends_the_request_to_the_server():
    script = Script(HEAD, still=True)
    async with asyncio.timeout(120), before(script) as client:
        answer = await client.post("/v1/completions", json=BODY, headers={"x-request-timeout": "0.5"})
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"
        await script.left.wait()


async def test_a_server_that_breaks_is_an_error_and_the_next_answer_is_right():
    script = Script.each(HEAD + said("a"), b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", GOOD)
    async with asyncio.timeout(120), before(script) as client:
        half = await client.post("/v1/completions", json=BODY)
        away = await client.post("/v1/completions", json=BODY)
        good = await client.post("/v1/completions", json=BODY)
    assert [half.json()["error"]["code"], away.json()["error"]["code"]] == ["upstream_unavailable"] * 2
    assert "127.0.0.1" not in half.text + away.text
    assert good.json()["choices"][0]["text"] == TEXT
