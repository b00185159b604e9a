"""`POST /v1/explain` of every dialect: it says what then happens, gets the route's own errors, and leaves no trace."""

import pytest

from gateway.auth import KeyFile, Scope
from gateway.limits import Quota
from tests.support.service import Service

TALK = [{"role": "user", "content": "one two three"}]
CONFIG = """
[engines.default]
plugin = "echo"
settings = {{delay = 0.01, places = 2}}

[engines.small]
plugin = "echo"
settings = {{model = "small", context_window = 8}}

[engines.words]
plugin = "scripted"
settings = {{model = "words", capabilities = ["completion", "stop", "score", "classify", "embedding", "tokenize"]}}

[routes.fitting]
engines = ["small", "default"]

[auth]
file = "{keys}"

[limits]
"""
GENERATIONS = {
    "/v1/generate": {"prompt": "one two three", "temperature": 0, "max_new_tokens": 5},
    "/v1/completions": {"prompt": "one two three", "temperature": 0, "max_tokens": 5},
    "/v1/chat/completions": {"messages": TALK, "temperature": 0, "max_tokens": 5},
    "/v1/messages": {"model": "echo", "messages": TALK, "temperature": 0, "max_tokens": 5},
    "/v1/responses": {"input": "one two three", "temperature": 0, "max_output_tokens": 5, "store": False},
}
QUESTIONS = {
    "/v1/embeddings": {"model": "words", "input": ["one two", "three"]},
    "/embedding": {"model": "words", "content": "one two three"},
    "/v1/rerank": {"model": "words", "query": "one", "documents": ["two", "three"]},
    "/v2/rerank": {"model": "words", "query": "one", "documents": ["two", "three"]},
    "/v1/score": {"model": "words", "text_1": "one", "text_2": ["two", "three"]},
    "/v1/classify": {"model": "words", "input": ["one", "two three"]},
}
WRONG = {
    "/v1/generate": [{"prompt": "a", "temperature": -1}, {"prompt": "a", "max_tokens": 3}],
    "/v1/completions": [{"prompt": "a", "n": 0}, {"prompt": "a", "best_of": 1, "n": 2}, {"prompt": "x " * 5_000}],
    "/v1/chat/completions": [
        {},
        {"messages": TALK, "model": "nope"},
        {"messages": TALK, "response_format": {"type": 7}},
    ],
    "/v1/responses": [{"input": "a", "previous_response_id": "resp_nothing"}, {"input": "a", "top_logprobs": 99}],
    "/v1/embeddings": [{"input": "a"}, {"model": "words", "input": []}, {"model": "words", "input": ["a", [1]]}],
    "/v1/rerank": [{"model": "words", "query": "a"}, {"query": "a", "documents": ["a"]}],
    "/v1/score": [{"model": "words", "text_1": ["a", "b"], "text_2": ["a", "b", "c"]}],
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    file = KeyFile(folder / "keys.db")
    quota = Quota(requests_per_minute=1_000_000, tokens_per_minute=1_000_000)
    keys = {"one": file.create("one", quota=quota)[1], "other": file.create("other", quota=quota)[1]}
    keys["admin"] = file.create("admin", scopes=frozenset({Scope.ADMIN}))[1]
    (folder / "gateway.toml").write_text(CONFIG.format(keys=file.path))
    with Service("--config", str(folder / "gateway.toml")) as running:
        running.keys = keys

        def new_key(quota):
            name = f"made-{len(keys)}"
            keys[name] = file.create(name, quota=quota)[1]
            return name

        running.new_key = new_key
        yield running


@pytest.fixture
def post(gateway):
    def send(path, body, key="one", **headers):
        return gateway.client.post(path, json=body, headers={"authorization": f"Bearer {gateway.keys[key]}"} | headers)

    return send


@pytest.fixture
def explain(post):
    def ask(url, body, **options):
        answer = post("/v1/explain", {"url": url, "body": body}, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return ask


@pytest.mark.parametrize("url", GENERATIONS)
def test_a_request_of_every_dialect_is_explained(url, explain, post):
    told = explain(url, GENERATIONS[url])
    assert (told["url"], told["model"], told["engine"], told["plugin"]) == (url, "echo", "default", "echo")
    assert told["parameters"]["max_tokens"] == {"value": 5, "source": "request"}
    assert told["parameters"]["temperature"] == {"value": 0, "source": "request"}
    (prompt,) = told["prompts"]
    assert (prompt["tokens"], prompt["max_tokens"]) == (3, 5)
    usage = post(url, GENERATIONS[url], **{"cache-control": "no-store"}).json()["usage"]
    assert prompt["tokens"] == usage.get("prompt_tokens", usage.get("input_tokens"))
    assert told["queue"] == {"position": 0, "waiting": 0, "running": 0, "places": 2, "seconds": 0, "refusal": None}
    assert told["limits"]["requests_per_minute"] == 1_000_000
    assert told["limits"]["tokens"] >= 8


@pytest.mark.parametrize("url", QUESTIONS)
def test_a_question_of_every_kind_is_explained(url, explain, post):
    told = explain(url, QUESTIONS[url])
    assert (told["model"], told["engine"], told["plugin"]) == ("words", "words", "scripted")
    assert sum(prompt["tokens"] for prompt in told["prompts"]) == 3
    assert {prompt["answer_cache"] for prompt in told["prompts"]} == {"none"}
    assert post(url, QUESTIONS[url]).status_code == 200 or "embed" in url  # this engine only says that it makes vectors


@pytest.mark.parametrize(("url", "body"), [(url, body) for url, bodies in WRONG.items() for body in bodies])
def test_the_errors_are_those_of_the_route(url, body, post):
    real, told = post(url, body), post("/v1/explain", {"url": url, "body": body})
    assert real.status_code >= 400
    # A route may say the reason again where its own clients look for it.
    assert (told.status_code, told.json()["error"]) == (real.status_code, real.json()["error"])


def test_anthropics_errors_are_told_in_the_services_own_words(post):
    body = {"model": "echo", "messages": [], "max_tokens": 5}
    real, told = post("/v1/messages", body), post("/v1/explain", {"url": "/v1/messages", "body": body})
    assert (told.status_code, told.json()["error"]["message"]) == (real.status_code, real.json()["error"]["message"])


def test_a_url_without_an_explanation_is_named(post):
    answer = post("/v1/explain", {"url": "/v1/files", "body": {}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "url")
    assert "/v1/messages" in answer.json()["error"]["message"]


def test_what_a_body_has_too_much_is_named_as_the_route_names_it(post):
    body = GENERATIONS["/v1/chat/completions"] | {"user": "me", "surplus": 1}
    real, told = post("/v1/chat/completions", body), post("/v1/explain", {"url": "/v1/chat/completions", "body": body})
    assert told.json()["without_effect"] == ["user"]
    assert told.headers["x-ignored-params"] == real.headers["x-ignored-params"] == "surplus"


def test_the_cache_of_answers_is_looked_at_and_not_filled(explain, post):
    body = {"prompt": "kept for later", "temperature": 0, "max_tokens": 5}
    states = [explain("/v1/completions", body)["prompts"][0]["answer_cache"] for _ in range(2)]
    assert states == ["miss", "miss"]
    assert post("/v1/completions", body).headers["x-cache"] == "miss"
    told = explain("/v1/completions", body)
    assert (told["prompts"][0]["answer_cache"], told["first_token_seconds"]) == ("hit", 0)
    assert explain("/v1/completions", body, key="other")["prompts"][0]["answer_cache"] == "miss"
    fresh = explain("/v1/completions", body, **{"cache-control": "no-store"})
    assert fresh["prompts"][0]["answer_cache"] == "none"
    assert explain("/v1/completions", body | {"temperature": 1})["prompts"][0]["answer_cache"] == "none"


def test_a_route_says_which_engine_answers_and_why(explain, post):
    short = explain("/v1/completions", {"model": "fitting", "prompt": "one", "max_tokens": 2})
    assert (short["engine"], short["route"]["engines"]) == ("small", ["small", "default"])
    assert short["route"] | {"engines": 0} == {"name": "fitting", "strategy": "ordered", "engines": 0, "fallback": None}
    body = {"model": "fitting", "prompt": "one " * 20, "max_tokens": 2}
    long = explain("/v1/completions", body)
    answer = post("/v1/completions", body)
    assert (long["engine"], long["route"]["fallback"]) == (answer.headers["x-engine"], answer.headers["x-fallback"])
    assert (long["engine"], long["why"]) == ("default", "the first engine of the route whose context the prompt fits")


def test_several_prompts_are_told_and_the_most_counted(explain):
    told = explain("/v1/completions", {"prompt": ["one", "two three"] * 10, "n": 2, "max_tokens": 1})
    assert [prompt["tokens"] for prompt in told["prompts"]] == [1, 2] * 8
    assert (told["prompts_in_all"], told["answers"]) == (20, 2)


@pytest.mark.parametrize("url", ["/v1/completions", "/v1/score"])
def test_an_explanation_is_one_request_of_the_limits_and_costs_what_it_reads(url, explain, post, gateway):
    """The key has two requests a minute; each of several prompts has a turn of its own."""
    key = gateway.new_key(Quota(requests_per_minute=2, tokens_per_minute=1_000))
    several = {"/v1/completions": {"prompt": ["one two", "three"]}, "/v1/score": QUESTIONS["/v1/score"]}
    for _ in range(2):
        told = explain(url, several[url], key=key)
    assert told["limits"]["requests_per_minute"] == 2
    refused = post("/v1/explain", {"url": url, "body": several[url]}, key=key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    poor = gateway.new_key(Quota(tokens_per_minute=150))
    long = {"/v1/completions": {"prompt": "one " * 700}, "/v1/score": {**several[url], "text_1": "one " * 700}}
    statuses = [post("/v1/explain", {"url": url, "body": long[url]}, key=poor).status_code for _ in range(5)]
    assert (statuses[0], statuses[-1]) == (200, 429)


def test_an_explanation_is_no_request_in_flight_and_no_answer(explain, gateway):
    def generations():
        headers = {"authorization": f"Bearer {gateway.keys['admin']}"}
        page = gateway.client.get("/v1/metrics", headers=headers).text
        return [line for line in page.splitlines() if line.startswith("llm_gateway_tokens_generated_total")]

    before = generations()
    for url, body in GENERATIONS.items():
        explain(url, body | {"stream": True})
    assert generations() == before


def test_a_key_is_needed(gateway):
    assert gateway.client.post("/v1/explain", json={"url": "/v1/generate", "body": {}}).status_code == 401


def test_the_time_that_a_client_sets_is_among_the_limits(explain):
    told = explain("/v1/generate", {"prompt": "one", "queue_timeout": 3}, **{"x-request-timeout": "7"})
    assert (told["limits"]["seconds"], told["limits"]["queue_seconds"]) == (7, 3)
