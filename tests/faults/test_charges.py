"""Tokens are charged once for what an engine made, however clients share, split or leave it."""

import time
import uuid

import pytest

from gateway.auth import KeyFile, Scope
from gateway.limits import Quota
from tests.support.observe import eventually, is_error, play
from tests.support.rawhttp import RawHTTP, post
from tests.support.service import Service, total
from tests.support.sse import frames

DAY = 2_000


class Shop:
    """A service whose keys have a budget of tokens each; `spent` reads what a key was charged."""

    def __init__(self, folder):
        self.file = KeyFile(folder / "keys.db")
        self.scraper = self.file.create("scraper", scopes=frozenset({Scope.METRICS}))[1]
        self.service = Service(
            LLM_GATEWAY__AUTH__FILE=str(self.file.path),
            LLM_GATEWAY__ENGINES__ACTOR__PLUGIN="scripted",
            LLM_GATEWAY__ENGINES__ACTOR__SETTINGS__PLACES="2",
            LOG_LEVEL="DEBUG",
        )

    def key(self, **quota):
        record, text = self.file.create(uuid.uuid4().hex, quota=Quota(**{"tokens_per_day": DAY} | quota))
        return record.id, text

    def ask(self, key, path="/v1/completions", **body):
        return self.service.client.post(path, json=body, headers={"authorization": f"Bearer {key}"})

    def phases(self, key):
        listed = self.service.client.get("/v1/requests", headers={"authorization": f"Bearer {key}"})
        return [entry["phase"] for entry in listed.json()["data"]]

    def spent(self, key_id):
        time.sleep(1.1)  # scrapes within a second share one rendering
        page = self.service.client.get("/metrics", headers={"authorization": f"Bearer {self.scraper}"}).text
        return [
            int(total(page, "llm_gateway_key_tokens_total", key_id=key_id, type=kind)) for kind in ("input", "output")
        ]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    made = Shop(tmp_path_factory.mktemp("keys"))
    with made.service:
        yield made


def is_left(shop, key, tokens):
    """Tell whether the limits leave a key so many tokens, and no more: a refusal takes nothing."""
    more, all_of_it = (shop.ask(key, model="echo", prompt="a", max_tokens=tokens - 2 + one) for one in (1, 0))
    return (more.status_code, all_of_it.status_code) == (429, 200)


def stream(**script):
    """The body of a stream that any client with the same key shares."""
    body = {"model": "scripted", "prompt": play(**script), "temperature": 0, "stream": True}
    return body | {"stream_options": {"include_usage": True}}


def open_stream(shop, key, body):
    return RawHTTP(shop.service.port).send(post(body, f"authorization: Bearer {key}", path="/v1/completions"))


def test_a_shared_answer_is_charged_to_the_one_that_stays(shop):
    key_id, key = shop.key()
    body = stream(texts=["one "] * 15, delay=0.05)
    with open_stream(shop, key, body) as leader, open_stream(shop, key, body) as follower:
        leader.read_until(b"one")
        follower.read_until(b"one")
        leader.reset()
        told = follower.read_until(b"[DONE]")
    assert b'"completion_tokens":15' in told
    prompt, answer = shop.spent(key_id)
    assert (prompt > 0, answer) == (True, 15)
    assert is_left(shop, key, DAY - prompt - answer)


def test_a_shared_answer_is_charged_once_where_both_stay(shop):
    key_id, key = shop.key()
    body = stream(texts=["one "] * 10, delay=0.02)
    with open_stream(shop, key, body) as one, open_stream(shop, key, body) as two:
        for each in (one, two):
            each.read_until(b"[DONE]")
    prompt, answer = shop.spent(key_id)
    assert answer == 10
    assert is_left(shop, key, DAY - prompt - answer)


def test_a_prompt_is_charged_once_its_prefill_has_begun(shop):
    key_id, key = shop.key()
    prompt = 0
    body = {"model": "scripted", "prompt": play(texts=["a"], prefill=30.0), "temperature": 0}
    for streamed in (False, True):
        before = prompt
        with open_stream(shop, key, body | {"stream": streamed}) as client:
            eventually(lambda: shop.phases(key) == ["prefill"])
            client.reset()
        eventually(lambda: not shop.phases(key))
        prompt, answer = shop.spent(key_id)
        assert (prompt - before > 20, answer) == (True, 0)
    assert is_left(shop, key, DAY - prompt)


def test_a_prompt_that_the_engine_refuses_is_free(shop):
    key_id, key = shop.key()
    assert is_error(shop.ask(key, model="echo", prompt="a " * 5_000), 400, "context_length_exceeded", "prompt")
    assert shop.ask(key, model="scripted", prompt=play(fault="raise", after=-1)).status_code == 500
    assert shop.spent(key_id) == [0, 0]
    assert shop.ask(key, model="echo", prompt="a", max_tokens=DAY).status_code == 200


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("body", "prompts", "answers"),
    [
        ({"prompt": "a b", "n": 2}, 1, 2),
        ({"prompt": ["a b", "c d"]}, 2, 1),
        ({"prompt": ["a b", "c d"], "n": 2}, 2, 2),
    ],
)
def test_one_body_is_one_request_of_the_limits(shop, body, prompts, answers, streamed):
    key_id, key = shop.key(concurrent=1, requests_per_minute=600)
    answer = shop.ask(key, model="echo", stream=streamed, **body)
    assert answer.status_code == 200, answer.text
    assert "x-failed-choices" not in answer.headers
    assert answer.headers["x-ratelimit-remaining-requests"] == "599"
    pieces = [*frames([answer.text])][:-1] if streamed else [answer.json()]
    assert {choice["index"] for piece in pieces for choice in piece["choices"]} == set(range(prompts * answers))
    assert shop.spent(key_id) == [2 * prompts, 2 * prompts * answers]
    assert is_left(shop, key, DAY - 2 * prompts * (1 + answers))


def test_a_body_of_several_is_refused_as_a_whole(shop):
    _, key = shop.key(tokens_per_day=60)
    asked = {"model": "echo", "prompt": ["a b"] * 4, "max_tokens": 12, "n": 2}
    assert shop.ask(key, **asked).status_code == 200
    for streamed in (False, True):
        assert is_error(shop.ask(key, **asked, stream=streamed), 429, "tokens_exceeded")
    assert is_left(shop, key, 60 - 4 * 2 - 4 * 2 * 2)
