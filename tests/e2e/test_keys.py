"""Keys, scopes, limits and live requests, seen by clients of the real service."""

import json

import pytest

from gateway.auth import KeyFile, Scope
from gateway.limits import Quota
from tests.support.observe import CANARY, eventually, is_error, play
from tests.support.rawhttp import RawHTTP, exchange, post, request
from tests.support.service import Service

# What FAULTS A5 names as open to everybody.
PUBLIC = {
    "/",
    "/livez",
    "/readyz",
    "/health",
    "/ping",
    "/v1/health",
    "/docs",
    "/redoc",
    "/schema",
    "/schema/openapi.json",
    "/schema/scalar",
    "/schema/swagger",
    "/schema/redoc",
}
LONG = {
    "model": "scripted",
    "prompt": play(texts=["tick "], delay=0.05),
    "ignore_eos": True,
    "max_new_tokens": 400,
    "return_full_text": False,
}


class Keys:
    """A service with a key for each purpose."""

    def __init__(self, folder) -> None:
        self.file = KeyFile(folder / "keys.db")
        self.shop = self.make("shop")
        self.other = self.make("other", models=frozenset({"echo"}))
        self.actor = self.make("actor", models=frozenset({"actor"}))
        self.router = self.make("router", models=frozenset({"gpt-4o-mini"}))
        self.admin = self.make("admin", scopes=frozenset({Scope.ADMIN}))
        self.scraper = self.make("scraper", scopes=frozenset({Scope.METRICS}))
        self.poor = self.make("poor", quota=Quota(requests_per_minute=2, tokens_per_minute=1_000))
        self.small = self.make("small", quota=Quota(tokens_per_minute=28))
        self.single = self.make("single", quota=Quota(concurrent=1))
        self.service = Service(
            LLM_GATEWAY__AUTH__FILE=str(folder / "keys.db"),
            LLM_GATEWAY__ENGINES__ACTOR__PLUGIN="scripted",
            LLM_GATEWAY__ENGINES__ACTOR__SETTINGS__PLACES="1",
            LLM_GATEWAY__ROUTES='{"gpt-4o-mini": ["default"]}',
            LLM_GATEWAY__ADMISSION__QUEUE_SECONDS="30",
            LOG_LEVEL="DEBUG",
        )

    def make(self, name, **terms) -> str:
        return self.file.create(name, **terms)[1]

    def ask(self, method, path, key="", **parts):
        return self.service.client.request(method, path, headers=bearer(key), **parts)

    def generate(self, key, prompt="a b c", **body):
        return self.ask("POST", "/v1/generate", key, json={"prompt": prompt, **body})

    def hold(self, key):
        """Begin a long stream and return its connection, once it has begun."""
        held = RawHTTP(self.service.port).send(post(LONG | {"stream": True}, f"x-api-key: {key}"))
        held.read_until(b"tick")
        return held


def bearer(key):
    return {"authorization": f"Bearer {key}"} if key else {}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    made = Keys(tmp_path_factory.mktemp("keys"))
    with made.service:
        yield made


def operations(keys):
    paths = keys.service.client.get("/schema/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_every_route_asks_for_a_key_but_the_public_ones(keys):
    asked = operations(keys)
    assert len(asked) > 10
    for method, path in asked:
        answer = keys.ask(method, path.replace("{", "").replace("}", ""))
        if path in PUBLIC:
            assert answer.status_code not in (401, 403), path
        elif path.startswith("/v1/messages"):
            assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error"), path
        else:
            assert is_error(answer, 401, "missing_api_key"), path
            assert answer.headers["www-authenticate"] == "Bearer"
    for path in PUBLIC:
        assert keys.ask("GET", path).status_code in (200, 302), path


def test_the_wrong_key_and_the_unknown_key_get_the_same_answer(keys):
    wrong = [keys.generate(key) for key in (keys.shop[:-1] + "x", "llmg_" + "0" * 32, "nonsense")]
    assert {(answer.status_code, answer.content) for answer in wrong} == {(401, wrong[0].content)}


def test_a_key_opens_what_its_scope_is_for(keys):
    assert keys.generate(keys.shop).status_code == 200
    assert (
        keys.service.client.post("/v1/generate", json={"prompt": "a"}, headers={"x-api-key": keys.shop}).status_code
        == 200
    )
    assert is_error(keys.ask("GET", "/metrics", keys.shop), 403, "insufficient_scope")
    assert is_error(keys.generate(keys.scraper), 403, "insufficient_scope")
    assert is_error(keys.ask("POST", "/v1/models/echo/load", keys.shop), 403, "insufficient_scope")
    assert keys.ask("GET", "/metrics", keys.scraper).status_code == 200
    assert keys.ask("POST", "/v1/models/echo/load", keys.admin).status_code == 200


def test_a_credential_that_comes_twice_is_refused(keys):
    for pair in (("Authorization: Bearer x", "Authorization: Bearer y"), ("x-api-key: a", "x-api-key: b")):
        answer = exchange(keys.service.port, request("GET", "/v1/models", *pair))
        assert (answer.status, answer.error["code"]) == (400, "duplicate_header")


def test_an_underscore_is_no_dash(keys):
    answer = exchange(keys.service.port, request("GET", "/v1/models", f"x_api_key: {keys.shop}"))
    assert (answer.status, answer.error["code"]) == (401, "missing_api_key")


def test_a_key_in_a_url_is_refused(keys):
    assert is_error(keys.ask("GET", f"/v1/models?api_key={keys.shop}"), 400, "key_in_url")


@pytest.mark.parametrize(("key", "name", "model"), [("actor", "actor", "scripted"), ("router", "gpt-4o-mini", "echo")])
def test_a_key_for_an_engine_or_a_route_asks_by_that_name_and_for_nothing_else(keys, key, name, model):
    text = getattr(keys, key)
    assert keys.generate(text, model=name).json()["model"] == model
    assert keys.generate(text).json()["model"] == model
    assert [listed["id"] for listed in keys.ask("GET", "/v1/models", text).json()["data"]] == [model]
    other = "echo" if model == "scripted" else "scripted"
    assert is_error(keys.generate(text, model=other), 404, "model_not_found", "model")


def test_a_model_that_is_not_the_keys_is_in_no_list_and_no_hint(keys):
    models = keys.ask("GET", "/v1/models", keys.other).json()["data"]
    assert [model["id"] for model in models] == ["echo"]
    answer = keys.generate(keys.other, model="scripted")
    assert is_error(answer, 404, "model_not_found", "model")
    assert answer.json() == json.loads(keys.generate(keys.other, model="nothing").text.replace("nothing", "scripted"))


def test_the_limits_are_told_and_kept(keys):
    first = keys.generate(keys.poor)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert int(first.headers["x-ratelimit-remaining-tokens"]) < 1_000
    assert keys.generate(keys.poor, stream=True).headers["x-ratelimit-remaining-requests"] == "0"
    over = keys.generate(keys.poor)
    assert is_error(over, 429, "rate_limit_exceeded")
    assert 25 <= int(over.headers["retry-after"]) <= 30
    assert 25_000 <= int(over.headers["retry-after-ms"]) <= 30_000
    assert keys.generate(keys.shop).status_code == 200


def test_tokens_are_settled_with_what_was_used(keys):
    for _ in range(3):
        assert keys.generate(keys.small, max_new_tokens=10).status_code == 200
    assert is_error(keys.generate(keys.small, max_new_tokens=10), 429, "tokens_exceeded")


def test_a_key_has_no_more_at_once_than_it_may(keys):
    with keys.hold(keys.single):
        assert is_error(keys.generate(keys.single), 429, "too_many_concurrent")
    eventually(lambda: keys.generate(keys.single).status_code == 200)


def test_live_requests_are_their_owners(keys):
    with keys.hold(keys.shop) as held:
        [mine] = keys.ask("GET", "/v1/requests", keys.shop).json()["data"]
        assert (mine["phase"], mine["model"]) == ("decode", "scripted")
        assert mine["tokens"] >= 1
        assert keys.ask("GET", "/v1/requests", keys.other).json()["data"] == []
        assert [one["id"] for one in keys.ask("GET", "/v1/requests", keys.admin).json()["data"]] == [mine["id"]]
        assert is_error(keys.ask("DELETE", f"/v1/requests/{mine['id']}", keys.other), 404, "not_found")
        assert keys.ask("DELETE", f"/v1/requests/{mine['id']}", keys.shop).json()["id"] == mine["id"]
        rest = held.read_until(b'"cancelled"')
        assert b"[DONE]" not in rest
    assert keys.ask("GET", "/v1/requests", keys.admin).json()["data"] == []


def test_a_waiting_stream_is_told_its_place_where_it_asks(keys):
    with keys.hold(keys.shop) as held:
        headers = ("Prefer: queue-updates", f"x-api-key: {keys.shop}")
        body = {"model": "scripted", "prompt": play(texts=["soon"]), "stream": True, "return_full_text": False}
        with RawHTTP(keys.service.port).send(post(body, *headers)) as waiting:
            assert b": queue position=1" in waiting.read_until(b": queue")
            [_, queued] = keys.ask("GET", "/v1/requests", keys.shop).json()["data"]
            assert (queued["phase"], queued["position"]) == ("queued", 1)
            held.reset()
            assert b"soon" in waiting.read_until(b"[DONE]")


def test_a_waiting_request_can_be_ended(keys):
    with keys.hold(keys.shop), RawHTTP(keys.service.port) as waiting:
        waiting.send(post({"model": "scripted", "prompt": play(texts=["never"])}, f"x-api-key: {keys.shop}"))
        queued = eventually(
            lambda: [
                one["id"]
                for one in keys.ask("GET", "/v1/requests", keys.shop).json()["data"]
                if one["phase"] == "queued"
            ]
        )
        keys.ask("DELETE", f"/v1/requests/{queued[0]}", keys.shop)
        answer = waiting.answer()
        assert (answer.status, answer.error["code"]) == (409, "cancelled")


@pytest.mark.parametrize("value", ["nan", "-1", "0", "inf", "soon", ""])
def test_a_time_that_is_none_is_refused(keys, value):
    headers = bearer(keys.shop) | {"x-request-timeout": value}
    answer = keys.service.client.post("/v1/generate", json={"prompt": "a"}, headers=headers)
    assert is_error(answer, 400, "invalid_value", "X-Request-Timeout")


def test_time_that_is_over_before_the_first_token_is_an_error_and_after_it_an_end(keys):
    headers = bearer(keys.shop) | {"x-request-timeout": "0.5"}
    late = LONG | {"prompt": play(texts=["x"], prefill=5.0)}
    assert is_error(keys.service.client.post("/v1/generate", json=late, headers=headers), 504, "deadline_exceeded")
    cut = keys.service.client.post("/v1/generate", json=LONG, headers=headers).json()
    assert cut["finish_reason"] == "deadline"
    assert cut["generated_text"].startswith("tick tick")
    first = LONG | {"prompt": play(texts=["x"], prefill=5.0), "first_token_timeout": 0.2}
    answer = keys.generate(
        keys.shop, **{name: value for name, value in first.items() if name != "prompt"}, prompt=first["prompt"]
    )
    assert is_error(answer, 504, "deadline_exceeded")


def test_who_waits_too_long_is_told_so_and_never_computed(keys):
    with keys.hold(keys.shop):
        answer = keys.generate(keys.shop, prompt=play(texts=["x"]), model="scripted", queue_timeout=0.2)
        assert is_error(answer, 503, "queue_timeout")
        assert int(answer.headers["retry-after"]) >= 1


def test_no_byte_is_sent_before_the_first_event_unless_asked(keys):
    with keys.hold(keys.shop), RawHTTP(keys.service.port, seconds=0.5) as waiting:
        waiting.send(post(LONG | {"stream": True}, f"x-api-key: {keys.shop}"))
        with pytest.raises(TimeoutError):
            waiting.answer()


def test_no_key_is_in_any_log_metric_or_error(keys):
    keys.generate(keys.shop, prompt=CANARY)
    keys.generate(keys.shop + "x")
    keys.ask("GET", f"/v1/models?key={keys.shop}", keys.shop)
    keys.ask("GET", f"/v1/{keys.shop}", keys.shop)
    seen = keys.service.output + keys.ask("GET", "/metrics", keys.scraper).text
    for secret in (keys.shop, keys.admin, keys.poor, CANARY):
        assert secret not in seen
    [line] = [line for line in keys.service.requests() if line["path"] == "/v1/generate" and line["status"] == 200][-1:]
    assert line["key_id"]
