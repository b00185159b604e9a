"""An answer that ran out of time says so where its dialect has no word for it."""

import pytest

from tests.support.observe import play
from tests.support.service import Service

SLOW = play(texts=["tick "] * 400, delay=0.02)
ASKED = [{"role": "user", "content": SLOW}]
BODIES = {
    "/v1/generate": ({"prompt": SLOW}, "finish_reason", "deadline"),
    "/v1/completions": ({"prompt": SLOW, "max_tokens": 400}, "choices.0.finish_reason", "length"),
    "/v1/chat/completions": ({"messages": ASKED}, "choices.0.finish_reason", "length"),
    "/v1/messages": ({"messages": ASKED, "max_tokens": 400, "model": "scripted"}, "stop_reason", "max_tokens"),
}


@pytest.fixture(scope="module")
def gateway():
    with Service(ENGINE="scripted") as running:
        yield running


def find(answer, path):
    for name in path.split("."):
        answer = answer[int(name) if name.isdigit() else name]
    return answer


@pytest.mark.parametrize("path", BODIES)
def test_an_answer_that_ran_out_of_time_says_so(gateway, path):
    body, where, word = BODIES[path]
    answer = gateway.client.post(path, json=body, headers={"x-request-timeout": "0.5"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-finish-detail"] == "deadline"
    assert find(answer.json(), where) == word
    assert "tick" in answer.text


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("seconds", ["nan", "-1", "0", "soon"])
def test_a_time_that_is_none_is_refused(gateway, path, seconds):
    answer = gateway.client.post(path, json=BODIES[path][0], headers={"x-request-timeout": seconds})
    assert answer.status_code == 400
    assert "X-Request-Timeout" in answer.text
