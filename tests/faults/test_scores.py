"""Log-probabilities are bounded in a reply, by a figure that the error names, and large replies hold up nobody."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.observe import is_error, quiescent
from tests.support.service import Service

MOST = 65_536
CONTEXT = 70_000
EACH = 21  # a token's own, and twenty alternatives


@pytest.fixture(scope="module")
def running(probe_path):
    settings = {
        "LOG_LEVEL": "DEBUG",
        "PYTHONPATH": probe_path,
        "LLM_GATEWAY__ENGINES__ACTOR__PLUGIN": "scripted",
        "LLM_GATEWAY__ENGINES__ACTOR__ISOLATED": "true",
        "LLM_GATEWAY__ENGINES__ACTOR__SETTINGS__CONTEXT_WINDOW": str(CONTEXT),
    }
    with Service(**settings) as service:
        yield service


@pytest.fixture
def service(running):
    with quiescent(running) as quiet:
        yield quiet


def complete(service, prompt, **asked):
    body = {"model": "actor", "prompt": prompt, "max_tokens": 1} | asked
    return service.client.post("/v1/completions", json=body)


def words(count):
    return "a " * count


def refuses(answer, param):
    assert is_error(answer, 400, "invalid_value", param)
    assert f"{MOST} are the most in one reply (server.max_logprobs)" in answer.json()["error"]["message"]
    return True


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"prompt_logprobs": 20}, "prompt_logprobs"),
        ({"echo": True, "logprobs": 20, "max_tokens": 0}, "echo"),
        ({"echo": True, "logprobs": 20, "max_tokens": 1, "stream": True}, "echo"),
    ],
)
def test_scored_prompts_are_held_to_the_budget_at_its_edge(service, asked, param):
    answers = 1 if asked.get("logprobs") and not asked.get("stream") else 0
    most = MOST // EACH - answers
    assert complete(service, words(most), **asked).status_code == 200
    assert refuses(complete(service, words(most + 1), **asked), param)


def test_the_prompts_of_a_body_count_together(service):
    prompts = [words(MOST // EACH // 4)] * 4
    assert len(complete(service, prompts, prompt_logprobs=20).json()["choices"]) == 4
    assert refuses(complete(service, [*prompts, words(200)], prompt_logprobs=20), "prompt_logprobs")


def test_a_hundred_prompts_with_all_alternatives_are_refused_by_name(service):
    assert refuses(complete(service, [words(450)] * 128, prompt_logprobs=20), "prompt_logprobs")


@pytest.mark.parametrize(("n", "most"), [(1, MOST // EACH), (8, MOST // EACH // 8)])
def test_answers_are_held_to_it_before_they_are_made(service, n, most):
    asked = {
        "model": "actor",
        "messages": [{"role": "user", "content": "x"}],
        "logprobs": True,
        "top_logprobs": 20,
        "n": n,
    }

    def chat(**more):
        return service.client.post("/v1/chat/completions", json=asked | more)

    assert chat(max_tokens=most).status_code == 200
    assert refuses(chat(max_tokens=most + 1), "logprobs")
    # Without a length they are as long as fits; streamed, they are not kept.
    assert len(chat().json()["choices"]) == n
    assert chat(max_tokens=most + 1, stream=True).status_code == 200


def test_the_largest_replies_hold_up_nobody(service):
    done = threading.Event()
    waits = []

    def probe():
        with httpx.Client(base_url=service.url) as client:
            while not done.is_set():
                begun = time.monotonic()
                assert client.get("/livez").status_code == 200
                waits.append(time.monotonic() - begun)
                time.sleep(0.005)

    with ThreadPoolExecutor(5) as pool:
        probing = pool.submit(probe)
        each = [pool.submit(complete, service, words(MOST // EACH), prompt_logprobs=20) for _ in range(4)]
        assert [answer.result().status_code for answer in each] == [200] * 4
        done.set()
        probing.result()
    assert max(waits) < 1.0
