"""The cache of answers, seen by clients of the real service."""

import asyncio
import re

import httpx
import pytest

from gateway.auth import KeyFile, Scope
from tests.support.observe import eventually
from tests.support.otlp import otlp_receiver
from tests.support.service import Service
from tests.support.sse import frames

TEXT = "Grüße, 世界! 🙂 one two three"
BODY = {"prompt": TEXT, "temperature": 0, "return_full_text": False}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A service with two keys, and an engine that takes its time."""
    file = KeyFile(tmp_path_factory.mktemp("keys") / "keys.db")
    keys = {name: file.create(name)[1] for name in ("one", "two")}
    keys["scraper"] = file.create("scraper", scopes=frozenset({Scope.METRICS}))[1]
    settings = {
        "LLM_GATEWAY__AUTH__FILE": str(file.path),
        "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY": "0.05",
        "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__PLACES": "4",
        "LLM_GATEWAY__TELEMETRY__METRICS_ENABLED": "true",
    }
    with Service(**settings) as running:
        running.keys = keys
        yield running


@pytest.fixture
def ask(gateway):
    def post(key="one", path="/v1/generate", headers=None, **body):
        headers = {"authorization": f"Bearer {gateway.keys[key]}"} | (headers or {})
        asked = {name: value for name, value in (BODY | body).items() if value is not None}
        return gateway.client.post(path, json=asked, headers=headers)

    return post


def counted(gateway):
    """Read how many requests there were of each result."""
    headers = {"authorization": f"Bearer {gateway.keys['scraper']}"}
    page = gateway.client.get("/v1/metrics", headers=headers).text
    return dict(re.findall(r'llm_gateway_cache_requests_total\{result="(\w+)"\} (\d+)', page))


def test_the_same_again_comes_from_the_cache_and_only_for_who_asked(ask):
    first, second, other = ask(), ask(), ask(key="two")
    assert [answer.headers["x-cache"] for answer in (first, second, other)] == ["miss", "hit", "miss"]
    texts = {answer.json()["generated_text"] for answer in (first, second, other)}
    assert texts == {TEXT}
    made, kept = (answer.json()["usage"] for answer in (first, second))
    assert kept == made | {"prompt_tokens_details": {"cached_tokens": made["prompt_tokens"]}}
    assert second.elapsed < first.elapsed / 2


def test_a_stream_of_a_kept_answer_is_the_answer(ask):
    ask(prompt=TEXT * 4)
    told = ask(prompt=TEXT * 4, stream=True)
    assert told.headers["x-cache"] == "hit"
    *pieces, last, done = frames([told.text])
    assert "".join(piece["text"] for piece in pieces) == TEXT * 4
    assert len(pieces) > 1
    assert (last["finish_reason"], done) == ("stop", "[DONE]")


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/generate"])
def test_no_store_is_respected(ask, path):
    never = {"cache-control": "no-store"}
    body = {"prompt": f"{path} no store", "path": path}
    if path == "/v1/completions":
        body |= {"return_full_text": None}
    for _ in range(2):
        assert "x-cache" not in ask(**body, headers=never).headers
    assert ask(**body).headers["x-cache"] == "miss"
    assert ask(**body, headers={"cache-control": "no-cache"}).headers["x-cache"] == "miss"
    assert ask(**body).headers["x-cache"] == "hit"


def test_what_is_drawn_anew_is_never_kept(ask):
    for _ in range(2):
        assert "x-cache" not in ask(temperature=0.7).headers
    for status in ("miss", "hit"):
        assert ask(temperature=0.7, seed=7).headers["x-cache"] == status


async def test_a_hundred_at_once_are_one_generation(gateway):
    before = counted(gateway)
    body = BODY | {"prompt": "one two three four five six seven eight nine ten"}
    headers = {"authorization": f"Bearer {gateway.keys['one']}"}
    async with httpx.AsyncClient(base_url=gateway.client.base_url, headers=headers, timeout=30) as client:
        tasks = [asyncio.create_task(client.post("/v1/generate", json=body)) for _ in range(100)]
        leaving = [asyncio.create_task(client.post("/v1/generate", json=body)) for _ in range(5)]
        await asyncio.sleep(0.1)
        for task in leaving:
            task.cancel()
        answers = await asyncio.gather(*tasks)
    assert {answer.json()["generated_text"] for answer in answers} == {body["prompt"]}
    assert sorted(answer.headers["x-cache"] for answer in answers) == ["coalesced"] * 99 + ["miss"]
    # What a scrape shows may be a second old.
    made = int(before["miss"]) + 1
    await asyncio.to_thread(eventually, lambda: int(counted(gateway)["miss"]) == made)


def test_several_answers_to_one_prompt_come_from_the_cache_too(ask):
    body = {"path": "/v1/completions", "n": 3, "seed": 5, "temperature": 1, "return_full_text": None}
    first, second = ask(**body), ask(**body)
    assert [answer.headers["x-cache"] for answer in (first, second)] == ["miss", "hit"]
    assert first.json()["choices"] == second.json()["choices"]


def test_a_kept_answer_leads_to_the_trace_that_made_it():
    with otlp_receiver() as receiver:
        with Service(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_endpoint) as service:
            statuses = [service.generate(**BODY).headers["x-cache"] for _ in range(2)]
        roots = [root for root in receiver.roots() if root.name == "POST /v1/generate"]
    assert statuses == ["miss", "hit"]
    made, kept = (root.children[0].span for root in roots)
    assert list(made.links) == []
    assert [(link.trace_id, link.span_id) for link in kept.links] == [(made.trace_id, made.span_id)]
