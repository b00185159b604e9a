"""Bodies that are no JSON, or not the JSON that the service takes."""

import json
import threading
import time

import httpx
import pytest

from tests.support.observe import CANARY, is_error, logged, post_json, scrape
from tests.support.service import Service

FOUR_MIB = 4 * 1024 * 1024


def with_field(name: str, value: str) -> str:
    """Write a body by hand: what `value` says need not be JSON."""
    return f'{{"prompt":"a","{name}":{value}}}'


def nested(depth: int, field: str, opening: str = "[", closing: str = "]") -> str:
    return with_field(field, opening * depth + closing * depth)


@pytest.mark.parametrize("depth", [64, 500, 1_000, 100_000, 1_000_000])
@pytest.mark.parametrize("field", ["unknown", "prompt", "messages", "logit_bias"])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}"), ("[", ""), ('[{"a":', "}]")], ids=str)
def test_deep_nesting_is_refused(running_edge, depth, field, brackets):
    body = nested(depth, field, *brackets).replace(":}", ":0}")
    answer = post_json(running_edge, body)
    assert answer.status_code == (413 if len(body) > FOUR_MIB else 400)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_nesting_within_the_limit_is_no_fault(edge):
    answer = post_json(edge, nested(63, "unknown"))
    assert (answer.status_code, answer.headers["x-ignored-params"]) == (200, "unknown")


def test_brackets_inside_texts_are_no_nesting(edge):
    text = '["{[\\"' * 200
    assert edge.generate(prompt=text, unknown=text, return_full_text=False).json()["generated_text"] == text


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt":"\xff"}',
        b'{"prompt":"\xc0\xaf"}',
        b'{"prompt":"\xed\xa0\x80"}',
        b'{"prompt":"\xf4\x90\x80\x80"}',
        b'{"unknown":"\xff","prompt":"a"}',
        b'{"\xff":1,"prompt":"a"}',
        '{"prompt":"a"}'.encode("utf-16"),
        '{"prompt":"a"}'.encode("utf-32"),
        b'\xef\xbb\xbf{"prompt":"a"}',
        rb'{"prompt":"\ud800"}',
        rb'{"prompt":"\udc00\ud800"}',
        rb'{"prompt":"\u12"}',
        b'{"prompt":"a\x00b"}',
        b'{"prompt":"a\nb"}',
    ],
)
def test_broken_text_is_refused(edge, body):
    assert is_error(post_json(edge, body), 400, "invalid_json")


def test_a_nul_in_a_text_is_a_character_like_any(edge):
    assert edge.generate(prompt="a\0b", return_full_text=False).json()["generated_text"] == "a\0b"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("NaN", "invalid_json"),
        ("Infinity", "invalid_json"),
        ("-Infinity", "invalid_json"),
        ("nan", "invalid_json"),
        ("01", "invalid_json"),
        ("1x", "invalid_json"),
        ("+1", "invalid_json"),
        ("1e400", "invalid_value"),
        ("1" + "0" * 30, "invalid_value"),
        ("1" + "0" * 5_000, "invalid_value"),
        ("true", "invalid_value"),
        ('"5"', "invalid_value"),
        ("[5]", "invalid_value"),
    ],
)
@pytest.mark.parametrize("field", ["max_new_tokens", "seed", "temperature", "top_k"])
def test_only_a_number_is_a_number(running_edge, field, value, code):
    param = field if code == "invalid_value" else None
    assert is_error(post_json(running_edge, with_field(field, value)), 400, code, param)


@pytest.mark.parametrize("value", ["1e3", "5.0", "1.5", "1E0"])
@pytest.mark.parametrize("field", ["max_new_tokens", "seed", "top_k", "min_new_tokens"])
def test_a_fraction_is_no_whole_number_however_round(running_edge, field, value):
    assert is_error(post_json(running_edge, with_field(field, value)), 400, "invalid_value", field)


def test_of_a_key_that_comes_twice_the_last_counts(edge):
    answer = post_json(edge, '{"prompt":"first","prompt":"last","return_full_text":true,"return_full_text":false}')
    assert answer.json()["generated_text"] == "last"


def test_unknown_fields_are_named_and_change_nothing(edge):
    answer = edge.generate(prompt=CANARY, mirostat_tau=3, plugins=[{"type": "function"}], transforms="{{ 1 }}")
    assert answer.json()["generated_text"] == CANARY * 2
    assert answer.headers["x-ignored-params"] == "mirostat_tau,plugins,transforms"


def test_unknown_fields_are_named_on_streams_too(edge):
    with edge.client.stream("POST", "/v1/generate", json={"prompt": "a", "stream": True, "trace": "me"}) as answer:
        assert answer.headers["x-ignored-params"] == "trace"


def test_a_header_holds_no_name_that_would_break_it(edge):
    answer = edge.generate(**{"prompt": "a", "a\r\nset-cookie: b": 1, "ключ": 1, "c" * 5_000: 1, "fine": 1})
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert len(answer.headers["x-ignored-params"]) <= 1_024


def test_a_field_that_the_model_cannot_honour_is_refused_by_name(edge):
    for field, value in {"logit_bias": {"1": 1.0}, "repetition_penalty": 1.2, "stop_token_ids": [7]}.items():
        assert is_error(edge.generate(prompt="a", **{field: value}), 400, "unsupported_parameter", field)


def test_an_unknown_field_inside_a_message_is_named_by_its_path(edge):
    answer = edge.generate(messages=[{"role": "user", "content": "a", "name": "b"}], mirostat_tau=1)
    assert answer.status_code == 200
    assert answer.headers["x-ignored-params"] == "messages[0].name,mirostat_tau"


def test_an_empty_body_is_called_empty(edge):
    for body in (b"", b" ", b"\r\n"):
        assert post_json(edge, body).json()["error"]["message"] == "the body is empty"


def test_a_role_that_is_none_is_told_which_there_are(edge):
    told = edge.generate(messages=[{"role": "king", "content": "a"}]).json()["error"]["message"]
    assert told == "messages[0].role: expected one of `system`, `user`, `assistant`"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b" ", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"prompt":"a"', "invalid_json"),
        (b'{"prompt":"a"} x', "invalid_json"),
        (b'{"prompt":"a"}{"prompt":"b"}', "invalid_json"),
        (b'{"prompt":"a",}', "invalid_json"),
        (b"{'prompt':'a'}", "invalid_json"),
        (b"prompt=a", "invalid_json"),
        (b"[]", "invalid_value"),
        (b'"a"', "invalid_value"),
        (b"5", "invalid_value"),
        (b"null", "invalid_value"),
    ],
)
def test_a_body_is_one_object(edge, body, code):
    assert is_error(post_json(edge, body), 400, code)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"content": "a"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "king", "content": "a"}, "messages[0].role"),
        ({"role": "user", "content": 5}, "messages[0].content"),
        ({"role": "user", "content": None}, "messages[0].content"),
        ({"role": ["user"], "content": "a"}, "messages[0].role"),
        ("a", "messages[0]"),
    ],
)
def test_a_fault_is_named_by_its_path(edge, message, param):
    assert is_error(edge.generate(messages=[message]), 400, "invalid_value", param)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("stop", lambda: json.dumps(["a"] * 800_000), "invalid_json"),
        ("stop_token_ids", lambda: json.dumps([1] * 1_000_000), "invalid_json"),
        ("logit_bias", lambda: json.dumps(dict.fromkeys(range(300_000), 1)), "invalid_json"),
        ("messages", lambda: json.dumps([{"role": "user", "content": "a"}] * 90_000), "invalid_json"),
        ("stop", lambda: json.dumps(["a"] * 40_000), "invalid_value"),
        ("stop_token_ids", lambda: json.dumps([1] * 200_000), "invalid_value"),
        ("logit_bias", lambda: json.dumps(dict.fromkeys(range(40_000), 1)), "invalid_value"),
        ("messages", lambda: json.dumps([{"role": "user", "content": "a"}] * 9_000), "invalid_value"),
        ("unknown", lambda: f"[{'[],' * 1_000_000}[]]", "invalid_json"),
        ("unknown", lambda: json.dumps({f"z{number}": 1 for number in range(250_000)}), "invalid_json"),
        ("unknown", lambda: f"[{('[' * 60 + ']' * 60 + ',') * 30_000}[]]", "invalid_json"),
    ],
    ids=[
        *("a million stop", "a million stop_token_ids", "a million logit_bias", "a million messages"),
        *("stop", "stop_token_ids", "logit_bias", "messages", "arrays", "names", "deep arrays"),
    ],
)
def test_very_many_elements_are_refused_while_others_are_served(edge, field, value, code):
    param = field if code == "invalid_value" else None
    body = with_field(field, value())
    with Heartbeat(edge) as heartbeat:
        assert is_error(post_json(edge, body), 400, code, param)
    assert heartbeat.slowest < 20 * 0.06


class Heartbeat:
    """Asks for `/livez` all the time from a thread of its own, and keeps the longest answer's seconds."""

    def __init__(self, service: Service) -> None:
        self.slowest = 0.0
        self._url = f"{service.url}/livez"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _beat(self):
        with httpx.Client() as client:
            while not self._over.wait(0.01):
                begun = time.perf_counter()
                assert client.get(self._url).status_code == 200
                self.slowest = max(self.slowest, time.perf_counter() - begun)


def test_every_refusal_has_its_line_and_is_counted(edge):
    bodies = {"invalid_json": "{", "invalid_value": "[]", "unsupported_parameter": with_field("logit_bias", '{"1":1}')}
    before = scrape(edge)
    for code, body in bodies.items():
        line = logged(edge, post_json(edge, body).headers["x-request-id"])
        assert (line["status"], line["code"], line["outcome"]) == (400, code, "refused")
    after = scrape(edge)
    for code in bodies:
        sample = f'llm_gateway_rejected_total{{code="{code}"}}'
        assert after[sample] == before.get(sample, 0) + 1


def test_where_the_configuration_is_strict_an_unknown_field_is_an_error():
    with Service(LLM_GATEWAY__SERVER__STRICT="true") as service:
        assert is_error(
            service.generate(prompt="a", mirostat_tau=3, id_slot=1), 400, "unsupported_parameter", "mirostat_tau"
        )
        assert is_error(service.generate(**{"prompt": "a", "k" * 9_000: 3}), 400, "unsupported_parameter", "k" * 1_000)
        message = {"role": "user", "content": "a", "name": "b"}
        refused = service.generate(messages=[message])
        assert is_error(refused, 400, "unsupported_parameter", "messages[0].name")
        assert "server.strict" in refused.json()["error"]["message"]
        assert service.generate(prompt="a").status_code == 200
        first = service.client.post("/v1/chat/completions", json={"messages": [message]}).json()
        turns = [message, first["choices"][0]["message"], message]
        assert service.client.post("/v1/chat/completions", json={"messages": turns}).status_code == 200
        claude = {"model": "echo", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}
        content = service.client.post("/v1/messages", json=claude).json()["content"]
        claude["messages"] += [{"role": "assistant", "content": content}, {"role": "user", "content": "a"}]
        assert service.client.post("/v1/messages", json=claude).status_code == 200
