"""The service before a server of OpenAI's dialect: another service of ours, with an echo in it."""

import json
from typing import Any

import pytest

from tests.support.service import Service

SETTINGS = "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__"
CHAT = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}]}


@pytest.fixture(scope="module")
def before():
    with Service() as server:
        settings: dict[str, Any] = {f"{SETTINGS}BASE_URL": f"{server.url}/v1"}
        with Service(ENGINE="openai", **settings) as service:
            yield service


@pytest.mark.parametrize("body", [CHAT, {"model": "echo", "prompt": "one two three"}], ids=["chat", "completion"])
def test_an_answer_comes_from_the_server_whole_and_streamed(before, body):
    route = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    whole = before.client.post(route, json=body).json()
    (choice,) = whole["choices"]
    assert (choice.get("text") or choice["message"]["content"]) == "one two three"
    assert whole["usage"] | {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6} == whole["usage"]
    lines = before.client.post(route, json=body | {"stream": True}).text.splitlines()
    frames = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    choices = [choice for frame in frames for choice in frame["choices"]]
    assert "".join(each.get("text") or each.get("delta", {}).get("content") or "" for each in choices) == (
        "one two three"
    )


def test_what_the_server_would_drop_is_refused_by_name(before):
    refused = before.client.post("/v1/chat/completions", json=CHAT | {"top_k": 3})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "top_k"
    theirs = before.client.post("/v1/chat/completions", json=CHAT | {"presence_penalty": 1.0})
    assert theirs.status_code == 400
    assert theirs.json()["error"]["param"] == "presence_penalty"
