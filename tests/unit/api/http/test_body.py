import json
import threading
from typing import ClassVar, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.http.body import (
    MAX_CONTAINERS,
    MAX_DEPTH,
    MAX_STRINGS,
    MAX_VALUES,
    RequestBody,
    decode_body,
    name_ignored,
    read_body,
)
from gateway.api.http.problems import Problem
from gateway.config import ServerSettings
from gateway.flow.offload import LARGE


class Inner(msgspec.Struct):
    number: int
    side: Literal["left", "right"] | None = None


class Body(msgspec.Struct):
    inner: Inner | None = None
    table: dict[int, float] = {}
    text: str = ""
    kind: Literal["a", "b"] = "a"
    items: tuple[Inner, ...] = ()


DECODER = msgspec.json.Decoder(Body)


def decode(body: str | bytes) -> tuple[Body, list[str]]:
    sent = RequestBody(body if isinstance(body, bytes) else body.encode())
    value = sent.decode(DECODER)
    return value, sent.unknown(value)


def refusal(body: str | bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        decode(body)
    return caught.value


def depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def test_unknown_keys_are_told_in_their_order():
    assert decode('{"z":1,"text":"a","a":[{}],"z":2}') == (Body(text="a"), ["z", "a"])


def test_unknown_keys_further_inside_are_told_by_their_paths():
    body = '{"inner":{"number":1,"a":2},"items":[{"number":1},{"b":{},"number":1,"c":null}],"d":[{"e":1}]}'
    value, unknown = decode(body)
    assert unknown == ["inner.a", "items[1].b", "items[1].c", "d"]
    assert value.items == (Inner(1), Inner(1))


def test_the_tag_of_an_object_is_no_unknown_key():
    class Tagged(msgspec.Struct, tag="tagged"):
        text: str

    class Holder(msgspec.Struct):
        items: tuple[Tagged, ...]

    body = RequestBody(b'{"items":[{"type":"tagged","text":"a"},{"type":"tagged","text":"b","type2":1}]}')
    assert body.unknown(body.decode(msgspec.json.Decoder(Holder))) == ["items[1].type2"]


def test_of_a_list_that_comes_twice_the_last_counts():
    assert decode('{"items":[{"number":1,"a":1},{"number":2}],"items":[{"number":3,"b":1}]}')[1] == ["items[0].b"]


@pytest.mark.parametrize(
    ("body", "code", "param", "message"),
    [
        ("[]", "invalid_value", None, "the body: expected `object`, got `array`"),
        ('{"text":5}', "invalid_value", "text", "text: expected `str`, got `int`"),
        ('{"inner":{}}', "invalid_value", "inner.number", "inner.number: this field is required"),
        ('{"items":[{"number":1},{}]}', "invalid_value", "items[1].number", "items[1].number: this field is required"),
        ('{"table":{"1":2,"a":1}}', "invalid_value", "table[a]", "the key 'a' of table: expected `int`, got `str`"),
        ('{"table":{"1":2,"3":"a"}}', "invalid_value", "table[3]", "table[3]: expected `float`, got `str`"),
        ('{"table":{"1":"a","1":2}}', "invalid_value", "table[...]", "table[...]: expected `float`, got `str`"),
        ('{"kind":"c"}', "invalid_value", "kind", "kind: expected one of `a`, `b`"),
        (
            '{"items":[{"number":1,"side":"up"}]}',
            "invalid_value",
            "items[0].side",
            "items[0].side: expected one of `left`",
        ),
        ("", "invalid_json", None, "the body is empty"),
        (" \n", "invalid_json", None, "the body is empty"),
        ('{"text":"\\ud800"}', "invalid_json", None, "the body is not valid JSON: "),
        (b'{"text":"\xff"}', "invalid_json", None, "the body is not valid JSON: it is not UTF-8"),
        (b'{"other":"\xff"}', "invalid_json", None, "the body is not valid JSON: it is not UTF-8"),
        ('{"other":' + "[" * 9_999, "invalid_json", None, "the body is not valid JSON: it is nested too deeply"),
    ],
)
def test_a_fault_has_its_code_its_path_and_its_reason(body, code, param, message):
    problem = refusal(body)
    assert (problem.code, problem.param) == (code, param)
    assert problem.message.startswith(message)


@pytest.mark.parametrize("rest", ["", '{"a":' * 5_000, '0},"text":"\\x"}', '[]},"other":' + "[" * 9_999])
def test_a_table_is_named_also_where_what_follows_is_no_json(rest):
    assert refusal('{"table":{"a":' + rest).param in ("table[...]", None)


def test_a_long_key_is_cut():
    problem = refusal(json.dumps({"table": {"k" * 5_000: 1}}))
    assert problem.param == f"table[{'k' * 40}]"
    assert len(problem.message) < 120


def test_a_fault_repeats_no_value():
    problem = refusal('{"kind":"a secret word - at `$.text`"}')
    assert (problem.code, problem.param) == ("invalid_value", "kind")
    assert "secret" not in problem.message


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_the_deepest_body_is_taken_and_one_level_more_is_not(opening):
    closing = opening[::-1].translate(str.maketrans("[{", "]}", '":a'))
    levels = len(closing)

    def nested(times: int) -> str:
        return '{"other":' + opening * times + "0" + closing * times + "}"

    fits = (MAX_DEPTH - 1) // levels
    assert decode(nested(fits))[1] == ["other"]
    assert refusal(nested(fits + 1)).code == "invalid_json"


def test_as_many_containers_as_allowed_are_taken_and_one_more_is_not():
    body = '{{"other":[{}]}}'.format
    assert decode(body(",".join(["[]"] * (MAX_CONTAINERS - 2))))[1] == ["other"]
    assert refusal(body(",".join(["[]"] * (MAX_CONTAINERS - 1)))).code == "invalid_json"


def test_as_many_strings_as_allowed_are_taken_and_one_more_is_not():
    body = '{{"other":[{}]}}'.format
    assert decode(body(",".join(['"\\""'] * (MAX_STRINGS - 1))))[1] == ["other"]
    assert refusal(body(",".join(['""'] * MAX_STRINGS))).code == "invalid_json"
    assert decode(json.dumps({"text": '"' * 3 * MAX_STRINGS}))[0].text == '"' * 3 * MAX_STRINGS


def test_as_many_values_as_allowed_are_taken_and_one_more_is_not():
    body = '{{"other":[{}]}}'.format
    assert decode(body(",".join(["1"] * MAX_VALUES)))[1] == ["other"]
    assert refusal(body(",".join(["1"] * (MAX_VALUES + 1)))).message.startswith("the body holds more than")
    assert decode(json.dumps({"text": '",' * 2 * MAX_VALUES}))[0].text == '",' * 2 * MAX_VALUES


@pytest.mark.parametrize("field", ["other", "items", "text"])
def test_what_is_too_large_is_refused_before_it_is_read(field):
    class Untouched:
        def decode(self, raw):
            raise AssertionError("it was read")

    for values in (["1"] * (MAX_VALUES + 1), ['"a"'] * (MAX_STRINGS + 1)):
        raw = f'{{"{field}":[{",".join(values)}]}}'.encode()
        with pytest.raises(Problem, match="more than"):
            RequestBody(raw).decode(Untouched())


@pytest.mark.parametrize("text", ["[" * 9_999, '"[' * 999, "\\[" * 999, '\\"{' * 999, "\\\\" * 999 + "["])
def test_brackets_inside_texts_do_not_count(text):
    assert decode(json.dumps({"text": text}))[0].text == text
    assert decode(json.dumps({text: 1, "other": text}))[1] == [text, "other"]


@given(
    st.recursive(
        st.text('[]{}"\\,:a', max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\', max_size=3), inner, max_size=3),
        max_leaves=20,
    ),
    st.integers(0, MAX_DEPTH + 5),
)
def test_the_depth_is_counted_as_python_counts_it(value, wraps):
    for _ in range(wraps):
        value = [value]
    body = {"other": value, "more": [[]] * (MAX_DEPTH + 1)}
    if depth(body) > MAX_DEPTH:
        assert refusal(json.dumps(body)).code == "invalid_json"
    else:
        assert decode(json.dumps(body))[1] == ["other", "more"]


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        (["a", "messages[0].b"], "a,messages[0].b"),
        (["ü", "a,b", "a\nb", ""], '%C3%BC,a%2Cb,a%0Ab,""'),
        (["x" * 1_000], "x" * 60),
        ([f"k{number}" for number in range(20)], ",".join([*(f"k{number}" for number in range(16)), "and 4 more"])),
    ],
)
def test_every_key_that_nobody_knows_is_named_in_a_header(keys, named):
    assert name_ignored(keys, ServerSettings()) == {"x-ignored-params": named}


@pytest.mark.parametrize("filler", ["x", "é"])
def test_marks_count_wherever_they_are_in_a_large_body(filler):
    """Among letters that are no marks, more than are looked at in one step."""
    nested = "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)
    for count in (0, 65_520, 200_000):
        assert "nested deeper" in refusal(f'{{"text":"{filler * count}","other":{nested}}}').message
        values = ",".join(["1"] * (MAX_VALUES + 1))
        assert "values" in refusal(f'{{"text":"{filler * count}","other":[{values}]}}').message
    bad = b'{"text":"' + filler.encode() * 200_000 + b'\xff"}'
    assert "UTF-8" in refusal(bad).message


class Asked:
    """A request that is nothing but its body."""

    scope: ClassVar = {"headers": [(b"content-type", b"application/json")]}

    def __init__(self, body):
        self._body = body

    async def receive(self):
        return {"type": "http.request", "body": self._body, "more_body": False}


@pytest.mark.parametrize("size", [LARGE, LARGE + 1])
async def test_a_large_body_waits_for_its_turn(monkeypatch, size):
    waited = []

    async def wait(units):
        waited.append(units)

    monkeypatch.setattr("gateway.api.http.body.turns.wait", wait)
    assert len((await read_body(Asked(bytes(size)))).raw) == size
    assert waited == ([2 * size] if size > LARGE else [])  # it is read, and handed on


@pytest.mark.parametrize(("length", "is_here"), [(10, True), (LARGE, False)])
async def test_a_large_body_is_read_beside_the_loop_and_a_small_one_at_once(monkeypatch, length, is_here):
    class Decoder:
        type = Body

        def decode(self, raw):
            threads.append(threading.get_ident())
            return DECODER.decode(raw)

    async def wait(_):
        pass

    threads = []
    monkeypatch.setattr("gateway.api.http.body.turns.wait", wait)
    body = json.dumps({"text": "x" * length, "more": 1}).encode()
    value, unknown, weight = await decode_body(Asked(body), Decoder())
    assert (len(value.text), unknown, weight >= length) == (length, ["more"], True)
    assert (threads == [threading.get_ident()]) is is_here


@pytest.mark.parametrize("filler", ['{"a":1},', "1,", "[[1],{}],"])
async def test_a_body_of_many_small_things_waits_as_long_as_a_text_that_takes_the_same_time(monkeypatch, filler):
    waited = []

    async def wait(units):
        waited.append(units)

    monkeypatch.setattr("gateway.api.http.body.turns.wait", wait)
    await read_body(Asked(b'{"text":"' + b"x" * 100_000 + b'"}'))
    assert waited == []
    await read_body(Asked(filler.encode() * (100_000 // len(filler))))
    assert waited[0] > 2 * LARGE
