"""Hostile schemas, patterns and grammars: 400 by name before any work, and neighbours that notice nothing."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.observe import is_error, play

SECONDS = 2
PATHS = {
    "/v1/generate": {"prompt": "one two"},
    "/v1/completions": {"prompt": "one two"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "one two"}]},
}


def nested(levels, keyword="oneOf"):
    schema: dict = {"type": "null"}
    for _ in range(levels):
        schema = {keyword: [schema, schema]} if keyword == "oneOf" else {keyword: schema}
    return schema


def narrow(levels):
    schema: dict = {"type": "null"}
    for _ in range(levels):
        schema = {"anyOf": [schema, {}]}
    return schema


HOSTILE = {
    "deep": (nested(30, "items"), "16 schemas inside each other"),
    "a power of two": (nested(11), "4096 objects and arrays"),
    "deep and narrow": (narrow(20), "$.anyOf[0].anyOf[0]"),
    "10,000 values": ({"properties": {"a": {"enum": [str(n) for n in range(10_000)]}}}, "$.properties.a.enum"),
    "1,000 properties": ({"properties": {f"p{n}": {} for n in range(1_000)}}, "$.properties"),
    "a text of 100 KiB": ({"properties": {"a": {"pattern": "a" * 102_400}}}, "$.properties.a.pattern"),
    "a remote reference": ({"$ref": "http://169.254.169.254/latest/meta-data"}, "nothing is fetched"),
    "a file": ({"items": {"$ref": "file:///etc/passwd"}}, "$.items.$ref"),
    "a reference to nothing": ({"$ref": "#/$defs/a", "$defs": {}}, "leads nowhere"),
    "a number of 5,000 digits": ({"maximum": 10**4_299}, "64 bits"),
    "its own instance": ({"$ref": "#"}, "no end"),
    "two of its own kind": (
        {"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a", "b"]},
        "no end",
    ),
    "a billion letters": ({"type": "string", "minLength": 10**9}, "$.minLength"),
    "a billion items": ({"type": "array", "minItems": 10**9, "items": {"type": "null"}}, "$.minItems"),
    "a pattern bomb": ({"type": "string", "pattern": "[ab]*a[ab]{30}"}, "$.pattern"),
    "no type": ({"type": "nonsense"}, "$.type"),
}


def post(service, path, **fields):
    return service.client.post(path, json={"model": "echo"} | PATHS[path] | fields)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("schema", "what"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_schema_is_refused_by_path_and_keyword(edge, path, schema, what):
    began = time.monotonic()
    for word, value, param in (
        ("guided_json", schema, "guided_json"),
        ("json_schema", json.dumps(schema), "json_schema"),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": schema}}, "response_format"),
    ):
        answer = post(edge, path, **{word: value})
        if len(json.dumps(schema)) > 65_536 and word == "json_schema":  # a text so long is not read at all
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
            continue
        error = answer.json()["error"]
        assert error["param"].startswith(param), error
        assert is_error(answer, 400, "invalid_value", error["param"])
        assert what in error["message"]
        assert "$" in error["message"]
        assert len(error["message"]) < 500
    assert time.monotonic() - began < 3 * SECONDS


def test_the_same_is_refused_in_the_words_of_responses(edge):
    for schema, what in HOSTILE.values():
        shape = {"format": {"type": "json_schema", "name": "n", "schema": schema}}
        answer = edge.client.post(
            "/v1/responses", json={"model": "echo", "input": "one", "store": False, "text": shape}
        )
        error = answer.json()["error"]
        assert error["param"] is not None, error
        assert error["param"].startswith("text.format"), error
        assert is_error(answer, 400, "invalid_value", error["param"])
        assert what in error["message"]
    answer = edge.client.post("/v1/responses", json={"model": "echo", "input": "one", "guided_regex": "a"})
    assert is_error(answer, 400, "unsupported_parameter", "guided_regex")
    assert answer.json()["error"]["message"].endswith("is asked for with text.format")


def test_the_same_is_refused_in_anthropics_words(edge):
    body = {"model": "echo", "max_tokens": 5, "messages": [{"role": "user", "content": "one"}]}
    for schema, what in HOSTILE.values():
        shape = {"format": {"type": "json_schema", "schema": schema}}
        answer = edge.client.post("/v1/messages", json=body | {"output_config": shape})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert answer.json()["error"]["message"].startswith("output_config.format")
        assert what in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *(("regex", pattern) for pattern in ("foo**", "(a+)+$", "[ab]*a[ab]{30}", "a{1,100000}", "(" * 60_000)),
        *(("guided_grammar", text) for text in ("start: start start", "root ::= root", "%llguidance {}", "\0")),
        ("guided_regex", "a" * 65_537),
        ("ebnf", "a" * 65_537),
        ("guided_choice", ["a"] * 1_001),
        ("guided_choice", ["a" * 60_000, "b" * 60_000]),
        ("guided_choice", []),
        ("format", "yaml"),
        ("format", 5),
    ],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.parametrize("path", PATHS)
def test_what_is_too_much_or_what_no_engine_here_does_is_refused_by_its_word(edge, path, word, value):
    answer = post(edge, path, **{word: value})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"].partition("[")[0]) == (400, word)
    assert error["code"] in {"invalid_value", "unsupported_parameter"}
    assert "x-ignored-params" not in answer.headers


@pytest.mark.parametrize("path", PATHS)
def test_no_word_reaches_an_engine_that_does_not_list_its_kind(edge, path):
    prompt = play(texts=["free text"])
    body = {"messages": [{"role": "user", "content": prompt}]} if "chat" in path else {"prompt": prompt}
    for word, value in (
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": {}}}),
        ("structured_outputs", {"choice": ["a"]}),
        ("guided_json", {}),
        ("guided_choice", ["a"]),
        ("regex", "a"),
        ("grammar", "root ::= a"),
        ("format", "json"),
    ):
        answer = edge.client.post(path, json=body | {"model": "scripted", word: value})
        assert is_error(answer, 400, "unsupported_parameter", word)


def test_neighbours_of_hostile_schemas_are_answered_as_ever(edge):
    """The slowest schemas that there are keep the event loop some milliseconds each."""
    slow = {"x": [1] * 32_000}
    hostile = [slow, nested(11), *(schema for schema, _ in HOSTILE.values())]

    def attack(schema):
        return client.post("/v1/completions", json=PATHS["/v1/completions"] | {"guided_json": schema}).status_code

    def ask(number):
        began = time.monotonic()
        answer = client.post("/v1/generate", json={"prompt": f"neighbour {number}", "return_full_text": False})
        return answer.json()["generated_text"], time.monotonic() - began

    # A client of its own: the connections that it keeps are closed with it.
    with httpx.Client(base_url=edge.url, timeout=30) as client, ThreadPoolExecutor(8) as pool:
        attacks = pool.map(attack, hostile * 4)
        answers = list(pool.map(ask, range(40)))
        assert set(attacks) <= {200, 400}
    assert [text for text, _ in answers] == [f"neighbour {number}" for number in range(40)]
    assert max(seconds for _, seconds in answers) < SECONDS
