"""The service before a server of OpenAI's dialect: another service of ours, with an echo in it."""

import json
from typing import Any

import pytest

from tests.support.otlp import otlp_receiver
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


@pytest.mark.parametrize("field", ["repetition_penalty", "presence_penalty"])
def test_what_the_server_would_drop_is_refused_by_name(before, field):
    refused = before.client.post("/v1/chat/completions", json=CHAT | {field: 1.5})
    assert refused.status_code == 400
    assert refused.json()["error"] | {"param": field, "code": "unsupported_parameter"} == refused.json()["error"]


def test_a_capability_of_the_server_is_one_of_the_service(before):
    told = before.client.get("/v1/models/echo/capabilities").json()["routes"]["chat.completions"]
    assert {"tools", "top_k", "response_format.json_schema", "enable_thinking"} <= {*told["honoured"]}
    assert {"repetition_penalty", "logprobs"} <= {*told["refused"]}


def test_a_call_comes_from_the_server_whole_and_streamed(before):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}
    body = CHAT | {"tools": [tool], "tool_choice": "required"}
    (choice,) = before.client.post("/v1/chat/completions", json=body).json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("f", {})
    lines = before.client.post("/v1/chat/completions", json=body | {"stream": True}).text.splitlines()
    frames = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    pieces = [piece for frame in frames for each in frame["choices"] for piece in each["delta"].get("tool_calls", [])]
    assert pieces[0]["function"]["name"] == "f"
    assert json.loads("".join(piece["function"]["arguments"] for piece in pieces)) == {}


def test_several_answers_and_a_shape_come_from_the_server(before):
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}
    shaped = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    choices = before.client.post("/v1/chat/completions", json=CHAT | {"n": 2, "response_format": shaped}).json()[
        "choices"
    ]
    assert [json.loads(choice["message"]["content"]) for choice in choices] == [{"a": 1}, {"a": 1}]


def test_a_thought_comes_from_the_server_apart(before):
    body = CHAT | {"enable_thinking": True}
    told = before.client.post("/v1/chat/completions", json=body).json()
    assert told["choices"][0]["message"]["reasoning_content"]
    assert told["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


def test_a_request_to_the_server_is_a_span_and_its_own_is_below():
    with otlp_receiver() as receiver:
        exporting: dict[str, Any] = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        with Service(**exporting) as server:
            settings: dict[str, Any] = {f"{SETTINGS}BASE_URL": f"{server.url}/v1"}
            with Service(ENGINE="openai", **settings, **exporting) as service:
                assert service.client.post("/v1/chat/completions", json=CHAT).status_code == 200
        (root,) = [root for root in receiver.roots() if root.name == "POST /v1/chat/completions"]
    assert root.outline().splitlines()[:4] == [
        "POST /v1/chat/completions",
        "  chat echo",
        "    chat echo",
        "      POST /v1/chat/completions",
    ]
    asked = root.children[0].children[0].attributes
    wanted = {"server.address": "127.0.0.1", "server.port": server.port, "http.response.status_code": 200}
    assert asked | wanted | {"gen_ai.usage.output_tokens": 3} == asked
