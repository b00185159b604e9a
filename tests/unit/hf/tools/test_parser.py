"""However an answer is split, its pieces add up to what the whole says."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine import Delta, Tool, ToolDelta
from gateway_hf.tools.forms import FORMS, GENERIC, NO_CALLS
from gateway_hf.tools.parser import AnswerParser, AnswerReading
from gateway_hf.tools.thoughts import THOUGHT_FORMS

TOOLS = {
    name: Tool(
        name, parameters={"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "array"}}}
    )
    for name in ("weather", "get-time")
}
EVERY_FORM = [*FORMS, GENERIC]
# Each form as a model writes it: two calls, the first with arguments that hold what closes other forms.
NASTY = '</tool_call> {"[x]"} \\"\n é🙂'
ARGUMENTS = [{"city": NASTY, "days": [1, {"a": None}]}, {}]
DUMPED = [json.dumps(each, ensure_ascii=False) for each in ARGUMENTS]
SIMPLE = [json.dumps(each, ensure_ascii=False) for each in ({"city": "Paris", "days": [1]}, {})]


def both(form, dumped):
    """Write two calls as the form says."""
    written = form.written
    names = ("weather", "get-time")
    calls = [
        written.call[0] + name + written.call[1] + each + written.call[2]
        for name, each in zip(names, dumped, strict=True)
    ]
    calls = calls if written.between is not None else calls[:1]
    return written.block[0] + (written.between or "").join(calls) + written.block[1]


WRITTEN = {
    "gemma": "<start_function_call>call:weather{city:<escape>a}b, c:d<escape>,days:[1,{a:null}]}<end_function_call>"
    "<start_function_call>call:get-time{}<end_function_call>",
    "gemma-4": '<|tool_call>call:weather{city:<|"|>a}b<|"|>,days:[1,{a:null}]}<tool_call|>'
    "<|tool_call>call:get-time{}<tool_call|>",
    "qwen-xml": "<tool_call>\n<function=weather>\n<parameter=city>\n12\n</parameter>\n<parameter=days>\n[1, 2]\n"
    "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=get-time>\n</function>\n</tool_call>",
    "pythonic": "[weather(city='a)]', days=[1, {'a': None}]), weather()]",
}


def sample(form):
    return WRITTEN.get(form.name) or both(form, DUMPED)


def parser(form=NO_CALLS, *, thoughts=None, thinking=False, held=False, tools=TOOLS):
    return AnswerParser(AnswerReading(form, thoughts, tools, thinking, held))


def parse(pieces, form, **ways):
    reading = parser(form, **ways)
    events = [event for piece in pieces for event in reading.feed(piece)]
    return events + reading.finish()


def told(events):
    """Say what the events add up to; ids are random and only compared among themselves."""
    text = "".join(event.text for event in events if isinstance(event, Delta))
    reasoning = "".join(event.reasoning for event in events if isinstance(event, Delta))
    calls = {}
    for event in events:
        if isinstance(event, ToolDelta):
            name, arguments = calls.get(event.index, ("", ""))
            calls[event.index] = (name + event.name, arguments + event.arguments)
    return text, reasoning, [calls[index] for index in sorted(calls)]


def split(text, cuts):
    places = sorted({min(cut, len(text)) for cut in cuts})
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


forms = pytest.mark.parametrize("form", EVERY_FORM, ids=lambda form: form.name)


@forms
def test_no_marker_begins_another(form):
    for thoughts in THOUGHT_FORMS:
        markers = [*form.begins, *form.dropped, *thoughts.opens]
        assert not [(a, b) for a in markers for b in markers if a != b and b.startswith(a)]


@forms
def test_calls_are_read_with_the_text_before_them(form):
    before = "" if form.bare else "I look it up.\n\n"
    text, reasoning, calls = told(parse([before + sample(form)], form))
    assert (text, reasoning) == (before.rstrip(), "")
    assert calls[0][0] == "weather"
    assert len(calls) == 1 + (form.written.between is not None)
    assert all(isinstance(json.loads(arguments), dict) for _, arguments in calls)


@pytest.mark.parametrize(
    "form", [form for form in EVERY_FORM if form.written.arguments == "json"], ids=lambda f: f.name
)
def test_arguments_are_read_whole_whatever_they_hold(form):
    _, _, calls = told(parse([both(form, DUMPED)], form))
    assert [json.loads(arguments) for _, arguments in calls] == ARGUMENTS[: len(calls)]


@forms
@given(
    st.lists(
        st.sampled_from(["CALLS", "<tool_call>", " ", "\n", "a", '{"name": "weather"', "[", "<think>", "</think>x"])
    ),
    st.lists(st.integers(0, 700)),
    st.sampled_from([None, *THOUGHT_FORMS[:2]]),
    st.booleans(),
)
def test_every_split_says_the_same(form, pieces, cuts, thoughts, thinking):
    text = "".join(sample(form) if piece == "CALLS" else piece for piece in pieces)
    ways = {"thoughts": thoughts, "thinking": thinking and thoughts is not None}
    whole = told(parse([text], form, **ways))
    assert told(parse(split(text, cuts), form, **ways)) == whole
    assert told(parse(list(text), form, **ways)) == whole
    for _, arguments in whole[2]:
        assert isinstance(json.loads(arguments), dict)


@forms
@given(st.data())
def test_nothing_is_lost_of_a_call_that_is_cut(form, data):
    whole = sample(form)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    text, _, calls = told(parse([cut], form))
    if not calls and form.name != "harmony":
        markers = "|".join(map(re.escape, form.dropped)) or "(?!)"
        assert text == re.sub(markers, "", cut)


@pytest.mark.parametrize(
    "form", [form for form in EVERY_FORM if form.written.arguments == "json"], ids=lambda f: f.name
)
@given(st.lists(st.integers(0, 300)))
def test_a_held_call_is_said_as_it_comes(form, cuts):
    text = both(form, DUMPED)
    assert (
        told(parse(split(text, cuts), form, held=True))[2]
        == [(name, dumped) for name, dumped in zip(("weather", "get-time"), DUMPED, strict=True)][
            : 1 + (form.written.between is not None)
        ]
    )
    letters = [event for event in parse(list(text), form, held=True) if isinstance(event, ToolDelta)]
    assert len(letters) > len(DUMPED[0])


@forms
def test_ids_are_unique(form):
    ids = [event.id for _ in range(3) for event in parse([sample(form)], form) if isinstance(event, ToolDelta)]
    assert len(set(ids)) == len(ids)
    assert all(ids)


@forms
def test_a_tool_that_may_not_be_called_is_text(form):
    written = sample(form).replace("weather", "whether").replace("get-time", "whether")
    text, _, calls = told(parse([written], form))
    assert calls == []
    assert "whether" in text


@pytest.mark.parametrize(
    "malformed",
    [
        "<tool_call>oops</tool_call>",
        '<tool_call>{"name": "weather"}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"a": NaN}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"a": }}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"a": "b}}',
        "<tool_call>" + "x" * 500,
        "<tool_call>" + '{"a":' * 5000,
        "<tool_call>" * 200,
    ],
)
def test_a_malformed_call_is_text(malformed):
    said = f"a {malformed} b"
    assert told(parse([said], GENERIC)) == (said, "", [])
    assert told(parse(list(said), GENERIC)) == (said, "", [])


def test_a_call_behind_a_malformed_one_is_read():
    good = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
    text, _, calls = told(parse([f"<tool_call>{{}}</tool_call> and {good} then"], GENERIC))
    assert (text, calls) == ("<tool_call>{}</tool_call> and then", [("weather", "{}")])


def test_half_a_character_is_said_as_an_escape():
    [delta] = parse(['<tool_call>{"name": "weather", "arguments": {"city": "\\ud800"}}</tool_call>'], GENERIC)
    assert delta.arguments.encode() == b'{"city": "\\ud800"}'


@pytest.mark.parametrize("thoughts", THOUGHT_FORMS, ids=lambda form: form.close)
def test_thoughts_are_told_apart(thoughts):
    said = f"{thoughts.opens[0]}\nhm, 1 < 2\n{thoughts.close}\n\nIt is so. "
    for pieces in ([said], list(said)):
        assert told(parse(pieces, NO_CALLS, thoughts=thoughts)) == ("It is so. ", "hm, 1 < 2", [])


@pytest.mark.parametrize("thoughts", THOUGHT_FORMS, ids=lambda form: form.close)
def test_a_thought_that_the_prompt_opened_needs_no_mark(thoughts):
    reading = parser(NO_CALLS, thoughts=thoughts, thinking=True)
    assert reading.is_thinking
    events = reading.feed("so") + reading.feed(thoughts.close + "!")
    assert not reading.is_thinking
    assert told(events + reading.finish()) == ("!", "so", [])


def test_a_thought_that_does_not_end_is_a_thought():
    assert told(parse(["<think>so", " </thi"], NO_CALLS, thoughts=THOUGHT_FORMS[1])) == ("", "so </thi", [])


def test_text_without_calls_keeps_its_white_space():
    said = " \n a  b \n"
    for form in EVERY_FORM:
        assert told(parse(list(said), form)) == (said, "", [])
