"""Two replicas behind nginx, by the file that `deploy/` has for it, and one Redis for both: they are one service."""

import asyncio
import json

import httpx
import pytest

from gateway.auth import KeyFile
from gateway.limits import Quota
from tests.chaos.client import client
from tests.support import proxy
from tests.support.observe import is_error
from tests.support.replicas import Replicas
from tests.support.service import free_port
from tests.support.store import StoreServer

LONG = " ".join(f"word{number}" for number in range(30))
PATIENCE = 60.0


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys.db"
    file = KeyFile(path)
    return path, file.create("plain")[1], file.create("limited", quota=Quota(requests_per_minute=4))[1]


@pytest.fixture(scope="module")
def replicas(keys):
    if proxy.program() is None:
        pytest.skip(proxy.MISSING)
    store = StoreServer()
    environment = {
        "LLM_GATEWAY__AUTH__FILE": str(keys[0]),
        "LLM_GATEWAY__LIMITS__STORE_URL": store.url,
        "LLM_GATEWAY__CACHE__STORE_URL": store.url,
        # A busy machine is no store that is down.
        "LLM_GATEWAY__LIMITS__STORE_SECONDS": "5",
        "LLM_GATEWAY__CACHE__STORE_SECONDS": "5",
        "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY": "0.01",
        "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__PLACES": "64",
    }
    try:
        with Replicas(2, **environment) as running:
            yield running
    finally:
        store.close()


@pytest.fixture(scope="module")
def front(replicas):
    with proxy.Proxy(free_port(), replicas.ports) as running:
        yield running


def ask(front, key, path="/v1/generate", **body):
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{front.url}{path}", json={"prompt": "a b"} | body, headers=headers, timeout=PATIENCE)


def test_the_replicas_are_one_service_to_a_key(front, keys):
    """Limits and answers are shared, both replicas answer, and no two requests have one id."""
    limited = [ask(front, keys[2]) for _ in range(5)]
    assert [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in limited] == [3, 2, 1, 0, 0]
    assert is_error(limited[-1], 429, "rate_limit_exceeded")
    answers = [ask(front, keys[1], temperature=0) for _ in range(4)]
    assert [answer.headers["x-cache"] for answer in answers] == ["miss", "hit", "hit", "hit"]
    assert len({answer.headers["x-request-id"] for answer in [*limited, *answers]}) == 9


def test_both_replicas_answer(front, replicas, keys):
    for _ in range(6):
        assert ask(front, keys[1]).status_code == 200
    assert all(service.requests() for service in replicas.services)


def test_a_stream_comes_through_as_it_is_made(front, keys):
    headers = {"authorization": f"Bearer {keys[1]}"}
    body = {"prompt": LONG, "stream": True}
    with httpx.stream("POST", f"{front.url}/v1/generate", json=body, headers=headers, timeout=PATIENCE) as answer:
        pieces = list(answer.iter_raw())
    assert len(pieces) > 10  # a proxy that gathers them sends one or two
    assert b"".join(pieces).rstrip().endswith(b"data: [DONE]")


def test_a_large_body_comes_through_and_one_that_is_too_large_is_refused_in_the_services_words(front, keys):
    assert ask(front, keys[1], prompt="x" * 1_000_000, max_new_tokens=1).status_code == 200
    assert is_error(ask(front, keys[1], prompt="x" * 4_300_000), 413, "request_too_large")


def test_what_is_about_one_replica_is_not_answered_by_any(front, keys):
    for path in ("/metrics", "/v1/requests", "/v1/health", "/v1/models/echo/unload"):
        assert ask(front, keys[1], path).json()["error"]["code"] == "not_found"


def test_what_is_stored_is_found_again_by_its_key(front, keys):
    stored = ask(front, keys[1], "/v1/responses", model="echo", input="hi", prompt=None)
    found = [
        httpx.get(f"{front.url}/v1/responses/{stored.json()['id']}", headers={"authorization": f"Bearer {keys[1]}"})
        for _ in range(4)
    ]
    assert {answer.status_code for answer in found} == {200}


async def test_a_rolling_restart_loses_nothing(front, replicas, keys):
    results, over = [], asyncio.Event()
    async with client(front.url, keys[1]) as asker:

        async def keep_asking(number: int) -> None:
            while not over.is_set():
                results.append(await asker.ask(LONG, stream=number % 2 == 0))

        asking = [asyncio.create_task(keep_asking(number)) for number in range(8)]
        for number in range(2):
            assert await asyncio.to_thread(replicas.stop, number) == 0
            await asyncio.to_thread(replicas.start, number)
        over.set()
        await asyncio.gather(*asking)
    assert [result for result in results if result.end != "whole" or result.text.strip() != LONG] == []
    assert len(results) > 16


def test_a_replica_that_dies_within_an_answer_breaks_it_off_and_the_next_request_is_answered(front, replicas, keys):
    """An answer that stopped short must not look like a whole one."""
    headers = {"authorization": f"Bearer {keys[1]}"}
    body = {"prompt": "on and on ", "ignore_eos": True, "stream": True, "max_new_tokens": 4_000}
    with httpx.stream("POST", f"{front.url}/v1/generate", json=body, headers=headers, timeout=PATIENCE) as answer:
        lines = answer.iter_lines()
        next(lines)
        for number in range(2):
            replicas.kill(number)
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)
    assert is_error_of_the_proxy(ask(front, keys[1]))
    replicas.start(0)
    assert ask(front, keys[1]).status_code == 200


def is_error_of_the_proxy(answer) -> bool:
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["content-type"] == "application/json"
    return json.loads(answer.content)["error"]["code"] == "engine_unavailable"
