"""A name for several engines, over HTTP: who answers, and what the client is told of it."""

import re

import pytest

from tests.support.service import Service

CONFIG = """
[engines.full]
plugin = "scripted"
settings = {model = "full", script = {fault = "raise", code = "overloaded", after = -1}}

[engines.down]
plugin = "scripted"
settings = {model = "down", script = {fault = "raise", code = "upstream_unavailable", after = -1}}

[engines.good]
plugin = "echo"
settings = {model = "good"}

[routes]
plain = ["full", "good"]

[routes.big]
engines = ["down", "full", "good"]
strategy = "weighted"
weights = {down = 1000, full = 1000}

[routes.stubborn]
engines = ["full", "good"]
fallback = false
"""
BODIES = {
    "/v1/generate": {"prompt": "hi you", "return_full_text": False},
    "/v1/completions": {"prompt": "hi you"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi you"}]},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi you"}], "max_tokens": 5},
    "/v1/responses": {"input": "hi you"},
}


@pytest.fixture(scope="module")
def routed(tmp_path_factory):
    file = tmp_path_factory.mktemp("routes") / "gateway.toml"
    file.write_text(CONFIG)
    with Service("--config", str(file), ENGINE="") as service:
        yield service


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", BODIES)
def test_every_dialect_says_which_engine_answered(routed, path, stream):
    answer = routed.client.post(path, json=BODIES[path] | {"model": "plain", "stream": stream})
    assert answer.status_code == 200
    assert answer.headers["x-engine"] == "good"
    assert answer.headers["x-fallback"] == "overloaded"
    assert "hi" in answer.text
    assert set(re.findall(r'"model": ?"(\w+)"', answer.text)) == {"good"}


@pytest.mark.parametrize(
    ("path", "kept"),
    [("/v1/chat/completions", "/v1/chat/completions/{}"), ("/v1/responses", "/v1/responses/{}")],
)
def test_a_stored_answer_says_which_model_made_it(routed, path, kept):
    made = routed.client.post(path, json=BODIES[path] | {"model": "plain", "store": True}).json()
    assert made["model"] == routed.client.get(kept.format(made["id"])).json()["model"] == "good"


def test_of_several_answers_each_chunk_says_which_model_it_is_of(routed):
    body = BODIES["/v1/completions"] | {"model": "plain", "stream": True, "n": 2, "temperature": 1}
    assert set(re.findall(r'"model":"(\w+)"', routed.client.post("/v1/completions", json=body).text)) == {"good"}


def test_two_engines_that_do_not_answer_are_passed_over(routed):
    answer = routed.client.post("/v1/generate", json=BODIES["/v1/generate"] | {"model": "big"})
    assert answer.json()["generated_text"] == "hi you"
    assert answer.headers["x-engine"] == "good"
    assert answer.headers["x-fallback"] in ("overloaded", "upstream_unavailable")


def test_without_fallback_the_error_is_the_engines(routed):
    answer = routed.client.post("/v1/generate", json=BODIES["/v1/generate"] | {"model": "stubborn"})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "overloaded"
    assert answer.headers["retry-after"]


def test_several_answers_fall_back_each_by_itself(routed):
    body = BODIES["/v1/chat/completions"] | {"model": "plain", "n": 3, "temperature": 1}
    answer = routed.client.post("/v1/chat/completions", json=body)
    assert [choice["message"]["content"] for choice in answer.json()["choices"]] == ["hi you"] * 3
    assert answer.headers["x-engine"] == "good"


def test_an_engine_without_a_route_is_not_named(routed):
    answer = routed.client.post("/v1/generate", json=BODIES["/v1/generate"] | {"model": "good"})
    assert "x-engine" not in answer.headers
    assert "x-fallback" not in answer.headers


def test_what_was_taken_over_is_counted(routed):
    before = routed.metric("llm_gateway_fallbacks_total", model="full", reason="overloaded")
    routed.client.post("/v1/generate", json=BODIES["/v1/generate"] | {"model": "plain"})
    assert routed.metric("llm_gateway_fallbacks_total", model="full", reason="overloaded") == before + 1
