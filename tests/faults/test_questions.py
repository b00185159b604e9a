"""Questions about prompts are bounded as generations are: in their number, their time, their size and their cost."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from gateway.questions import MOST_IDS
from tests.support.observe import eventually, is_error, play
from tests.support.rawhttp import RawHTTP, post
from tests.support.service import Service

KEYS = {name: f"llmg_{name * 40}" for name in ("a", "b", "c")}
AT_ONCE, WAITING = 1, 3
SLOW_SECONDS = 1.5
SLOW = {"prompt": play(prefill=SLOW_SECONDS)}
QUICK = {"prompt": "one two"}
LIMITED_TOKENS = 100


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture(scope="module")
def running(probe_path):
    settings = {
        "ENGINE": "scripted",
        "LOG_LEVEL": "DEBUG",
        "PYTHONPATH": probe_path,
        "LLM_GATEWAY__ADMISSION__QUESTIONS": str(AT_ONCE),
        "LLM_GATEWAY__ADMISSION__WAITING_QUESTIONS": str(WAITING),
        "LLM_GATEWAY__AUTH__KEYS__C__QUOTA__TOKENS_PER_MINUTE": str(LIMITED_TOKENS),
        **{f"LLM_GATEWAY__AUTH__KEYS__{name.upper()}__SHA256": digest(key) for name, key in KEYS.items()},
        "LLM_GATEWAY__AUTH__KEYS__A__SCOPES": '["admin"]',
    }
    with Service(**settings) as service:
        service.client.headers["authorization"] = f"Bearer {KEYS['a']}"
        yield service


@pytest.fixture
def service(running):
    """The service, and after the test the assertion that no question waits or runs."""
    yield running
    assert ask(running, "a", **QUICK).json()["count"] == 2
    eventually(lambda: running.client.get("/probe").json()["running"] == 0)


def wait_until_full(service):
    eventually(lambda: service.metric("llm_gateway_question_queue_depth") == WAITING, 10)


def ask(service, who, path="/tokenize", headers=None, **body):
    headers = {"authorization": f"Bearer {KEYS[who]}"} | (headers or {})
    return httpx.post(service.url + path, json=body, headers=headers, timeout=30)


def at_once(pool, count, function, *arguments, **named):
    return [pool.submit(function, *arguments, **named) for _ in range(count)]


def test_the_queue_is_full_at_its_edge_and_says_when_to_come_back(service):
    with ThreadPoolExecutor(8) as pool:
        fitting = at_once(pool, AT_ONCE + WAITING, ask, service, "a", **SLOW)
        wait_until_full(service)
        refused = ask(service, "a", **QUICK)
        assert is_error(refused, 503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert [each.result().status_code for each in fitting] == [200] * (AT_ONCE + WAITING)


def test_the_loop_gets_the_interpreter_back_from_a_thread_at_once(running):
    """Python's own interval, ten times this, would be waited for at each step beside a thread that computes."""
    assert running.client.get("/probe").json()["switch_us"] == 500


def test_a_neighbour_is_served_before_the_rest_of_a_flood(service):
    with ThreadPoolExecutor(8) as pool:
        flood = at_once(pool, AT_ONCE + WAITING, ask, service, "a", **SLOW)
        wait_until_full(service)
        assert ask(service, "b", **QUICK).json()["count"] == 2
        # It waited for the one that was being answered and the next, not for all.
        assert not all(each.done() for each in flood)
        statuses = sorted(each.result().status_code for each in flood)
        # The flood gave up one of its turns to the neighbour.
        assert statuses == [200] * (AT_ONCE + WAITING - 1) + [503]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {"prompt": play(prefill=20)}),
        ("/apply-template", {"messages": [{"role": "user", "content": play(prefill=20)}]}),
        (
            "/v1/messages/count_tokens",
            {"model": "scripted", "messages": [{"role": "user", "content": play(prefill=20)}]},
        ),
    ],
)
def test_a_client_that_leaves_ends_its_question(service, path, body):
    with RawHTTP(service.port) as leaving:
        leaving.send(post(body, f"Authorization: Bearer {KEYS['a']}", path=path))
        time.sleep(0.3)
    begun = time.monotonic()
    # There is one place, and the question that left it had 20 seconds to go.
    assert ask(service, "b", **QUICK).json()["count"] == 2
    assert time.monotonic() - begun < 5


def test_a_question_obeys_its_own_time(service):
    begun = time.monotonic()
    answer = ask(service, "a", headers={"x-request-timeout": "0.3"}, prompt=play(prefill=20))
    assert is_error(answer, 504, "deadline_exceeded")
    assert time.monotonic() - begun < 5
    refused = ask(service, "a", headers={"x-request-timeout": "soon"}, **QUICK)
    assert is_error(refused, 400, "invalid_value", "X-Request-Timeout")


def test_a_question_costs_what_it_reads(service):
    words = "x " * (32 * (LIMITED_TOKENS - 2))  # two tokens fewer than the key has, for what the next one costs
    answer = ask(service, "c", prompt=words)
    assert answer.json()["count"] == 32 * (LIMITED_TOKENS - 2)
    assert ask(service, "c", prompt="x").status_code == 200
    spent = ask(service, "c", prompt=words)
    assert is_error(spent, 429, "tokens_exceeded")
    assert int(spent.headers["retry-after"]) >= 1
    # Another caller's limits are its own.
    assert ask(service, "b", **QUICK).status_code == 200


def test_a_reply_has_its_bound(service):
    ask(service, "a", prompt="w")
    most = ask(service, "a", "/detokenize", tokens=[0] * MOST_IDS)
    assert most.status_code == 200, most.text[:200]
    assert is_error(
        ask(service, "a", "/detokenize", tokens=[0] * (MOST_IDS + 1)), 400, "context_length_exceeded", "tokens"
    )
