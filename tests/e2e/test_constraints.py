"""The shape of an answer in the words of all clients, whole and streamed, against a service over HTTP."""

import enum
import json
import re
import time
from typing import Literal

import anthropic
import openai
import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from tests.support.hostile import NAMES, bomb, is_bounded
from tests.support.service import Service
from tests.support.sse import frames

pytestmark = pytest.mark.slow

USER = [{"role": "user", "content": "It is green."}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 3}, "people": {"type": "integer", "minimum": 1}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
SAID = {"city": "xxx", "people": 1}
WORDS = [
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}}, SAID),
    ({"response_format": {"type": "json_object", "schema": CITY}}, SAID),
    ({"response_format": {"type": "json_object"}}, {}),
    ({"structured_outputs": {"json": CITY}}, SAID),
    ({"structured_outputs": {"choice": ['"red"', '"green"']}}, "red"),
    ({"guided_json": json.dumps(CITY)}, SAID),
    ({"guided_json_object": True}, {}),
    ({"guided_choice": ["1", "2"]}, 1),
    ({"json_schema": CITY}, SAID),
    ({"format": "json"}, {}),
    ({"format": CITY}, SAID),
]
PATHS = ("/v1/generate", "/v1/completions", "/v1/chat/completions")


class Colour(enum.StrEnum):
    RED = "red"
    GREEN = "green"


class Thing(BaseModel):
    name: str
    colour: Colour
    weight: int | None


class Country(BaseModel):
    country: Literal["France", "Italy"]
    population: Literal[58, 68]  # a number without bounds may have digits until the answer is cut


@pytest.fixture(scope="module")
def house():
    with Service() as running:
        yield running


def body_of(path, **fields):
    body = {"messages": USER} if "chat" in path else {"prompt": "It is green."}
    if path == "/v1/generate":
        body["return_full_text"] = False
    return body | fields


def text_of(answer):
    if "generated_text" in answer:
        return answer["generated_text"]
    choice = answer["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("fields", "said"), WORDS, ids=[next(iter(fields)) for fields, _ in WORDS])
def test_every_word_holds_the_answer_and_none_is_ignored(house, path, fields, said):
    answer = house.client.post(path, json=body_of(path, **fields))
    assert json.loads(text_of(answer.json())) == said
    assert answer.headers["x-structured"] == "valid"
    assert "x-ignored-params" not in answer.headers


@pytest.mark.parametrize("path", PATHS)
def test_a_cut_answer_says_that_it_is_a_beginning_whole_and_streamed(house, path):
    length = "max_new_tokens" if path == "/v1/generate" else "max_tokens"
    for most, said, reason in ((2, "truncated", "length"), (50, "valid", "stop")):
        body = body_of(path, guided_json=CITY, **{length: most})
        whole = house.client.post(path, json=body)
        assert whole.headers["x-structured"] == said
        streamed = house.client.post(path, json=body | {"stream": True}, headers={"cache-control": "no-store"})
        assert "x-structured" not in streamed.headers
        last = [frame for frame in frames([streamed.text]) if said in json.dumps(frame)][-1]
        end = last["choices"][0] if "choices" in last else last
        assert (end["x_structured"], end["finish_reason"]) == (said, reason)
        assert json.dumps(SAID).startswith(text_of(whole.json()))


def test_a_stop_text_cuts_an_answer_off(house):
    answer = house.generate(**body_of("/v1/generate", guided_json=CITY, stop=["people"]))
    assert (answer.json()["finish_reason"], answer.headers["x-structured"]) == ("stop", "truncated")
    assert answer.json()["generated_text"] == '{"city": "xxx", "'


def test_an_answer_without_a_shape_says_nothing_of_one(house):
    for path in PATHS:
        answer = house.client.post(path, json=body_of(path))
        assert "x-structured" not in answer.headers
        streamed = house.client.post(path, json=body_of(path, stream=True))
        assert "x_structured" not in streamed.text


def test_a_cached_answer_says_it_too_and_another_shape_is_another_answer(house):
    first, again = (house.generate(prompt="a", guided_json=CITY, temperature=0) for _ in range(2))
    assert (first.headers["x-cache"], again.headers["x-cache"]) == ("miss", "hit")
    assert first.headers["x-structured"] == again.headers["x-structured"] == "valid"
    for fields in ({}, {"guided_json": {}}, {"guided_choice": ["a"]}, {"format": "json"}):
        assert house.generate(prompt="a", temperature=0, **fields).headers["x-cache"] == "miss"


def test_several_answers_are_each_held(house):
    with openai.OpenAI(base_url=f"{house.url}/v1", api_key="none", max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="echo", messages=USER, n=3, response_format={"type": "json_object"}
        )
        assert [choice.message.content for choice in raw.parse().choices] == ["{}"] * 3
        assert raw.headers["x-structured"] == "valid"
        chunks = client.chat.completions.create(
            model="echo", messages=USER, n=2, response_format={"type": "json_object"}, stream=True
        )
        ends = [choice for chunk in chunks for choice in chunk.choices if choice.finish_reason]
        assert sorted((end.index, end.x_structured) for end in ends) == [(0, "valid"), (1, "valid")]


def test_openais_sdk_parses_a_model_whole_and_streamed(house):
    with openai.OpenAI(base_url=f"{house.url}/v1", api_key="none", max_retries=0) as client:
        asked = {"model": "echo", "messages": USER, "response_format": Thing}
        made = client.chat.completions.parse(**asked).choices[0].message.parsed
        assert made == Thing(name="", colour=Colour.RED, weight=0)
        with client.chat.completions.stream(**asked) as stream:
            assert stream.get_final_completion().choices[0].message.parsed == made


def test_anthropics_sdk_parses_a_model_whole_and_streamed(house):
    with anthropic.Anthropic(base_url=house.url, api_key="none", max_retries=0) as client:
        asked = {"model": "echo", "max_tokens": 50, "messages": USER}
        made = client.messages.parse(**asked, output_format=Thing)
        assert made.parsed_output == Thing(name="", colour=Colour.RED, weight=0)
        with client.messages.stream(**asked, output_format=Thing) as stream:
            assert stream.get_final_message().parsed_output == made.parsed_output
        older = {"output_format": {"type": "json_schema", "schema": CITY}}
        raw = client.messages.with_raw_response.create(**asked, extra_body=older)
        assert json.loads(raw.parse().content[0].text) == SAID
        assert raw.headers["x-structured"] == "valid"


def test_the_models_page_says_which_words_are_honoured(house):
    routes = house.client.get("/v1/models/echo/capabilities").json()["routes"]
    for route in ("chat.completions", "completions"):
        honoured, refused = routes[route]["honoured"], routes[route]["refused"]
        assert {"guided_json", "guided_choice", "response_format.json_schema", "format.json"} <= set(honoured)
        assert {"guided_regex", "grammar", "structured_outputs.grammar"} <= set(refused)
        assert "structured_outputs.whitespace_pattern" in refused
        assert "structured_outputs.disable_fallback" in routes[route]["taken"]
    assert "output_config.format" in routes["messages"]["honoured"]


COUNTRY = {
    "type": "object",
    "properties": {
        "country": {"enum": ["France", "Italy"]},
        "population": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{2,8}$"}, "maxItems": 2},
    },
    "required": ["country", "population", "tags"],
    "additionalProperties": False,
}
ASKED = "Tell me of a country."


def is_country(text):
    Draft202012Validator(COUNTRY).validate(json.loads(text))
    return True


REAL = {
    "response_format": ({"type": "json_schema", "json_schema": {"name": "c", "schema": COUNTRY}}, is_country),
    "structured_outputs": ({"regex": "[0-9]{3}-[0-9]{2}"}, lambda text: re.fullmatch("[0-9]{3}-[0-9]{2}", text)),
    "guided_choice": (["Paris", "Rome"], lambda text: text in {"Paris", "Rome"}),
    "guided_json": (json.dumps(COUNTRY), is_country),
    "regex": ("(yes|no)!", lambda text: text in {"yes!", "no!"}),
    "grammar": ('root ::= "a" [0-9] ("-" [0-9])*  "z"', lambda text: re.fullmatch("a[0-9](-[0-9])*z", text)),
    "ebnf": ('root ::= greeting " " name\ngreeting ::= "hi" | "ho"\nname ::= [a-c]+ "."', None),
    "guided_grammar": ('start: WORD "!"\nWORD: /[a-d]{3}/', lambda text: re.fullmatch("[a-d]{3}!", text)),
    "json_schema": (COUNTRY, is_country),
    "format": (COUNTRY, is_country),
}
REAL["ebnf"] = (REAL["ebnf"][0], lambda text: re.fullmatch(r"h[io] [a-c]+\.", text))


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/chat/completions"])
@pytest.mark.parametrize("word", REAL)
def test_the_built_in_model_keeps_to_every_word(builtin, path, word):
    value, keeps = REAL[word]
    length = "max_new_tokens" if path == "/v1/generate" else "max_tokens"
    body = {"messages": [{"role": "user", "content": ASKED}], length: 200, "temperature": 1, word: value}
    answer = builtin.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    if answer.headers["x-structured"] == "valid":
        assert keeps(text_of(answer.json()))
    else:  # what repeats may go on until it is cut
        assert word in ("grammar", "ebnf")
    streamed = builtin.client.post(path, json=body | {"stream": True, "seed": 7})
    assert '"x_structured":"' in streamed.text


def test_the_built_in_model_fills_a_pydantic_model_through_both_sdks(builtin):
    asked = {"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": ASKED}], "max_tokens": 200}
    with openai.OpenAI(base_url=f"{builtin.url}/v1", api_key="none", max_retries=0) as client:
        made = client.chat.completions.parse(**asked, response_format=Country).choices[0].message.parsed
        assert made.country in {"France", "Italy"}
        with client.chat.completions.stream(**asked, response_format=Country) as stream:
            assert stream.get_final_completion().choices[0].message.parsed.country in {"France", "Italy"}
    with anthropic.Anthropic(base_url=builtin.url, api_key="none", max_retries=0) as client:
        assert client.messages.parse(**asked, output_format=Country).parsed_output.country in {"France", "Italy"}


def test_a_cut_answer_of_the_built_in_model_is_a_beginning(builtin):
    answer = builtin.generate(prompt=ASKED, guided_json=COUNTRY, max_new_tokens=4, return_full_text=False)
    assert (answer.json()["finish_reason"], answer.headers["x-structured"]) == ("length", "truncated")
    assert answer.json()["generated_text"].startswith('{"country')


@pytest.mark.parametrize("name", NAMES)
def test_a_bomb_costs_the_built_in_model_no_more_than_its_budget(builtin, name):
    """It is 400 by its word, or an answer that keeps to it or is cut; and the next question is answered as ever."""
    began = time.monotonic()
    answer = builtin.generate(prompt=ASKED, max_new_tokens=12, return_full_text=False, **bomb(name))
    assert time.monotonic() - began < 10
    if answer.status_code == 200:
        assert answer.headers["x-structured"] in {"valid", "truncated"}
    assert is_bounded(answer.status_code, answer.json(), next(iter(bomb(name)))), answer.text
    after = builtin.generate(prompt="The capital of France is", max_new_tokens=2, temperature=0)
    assert after.json()["generated_text"].startswith("The capital of France is Paris")
