"""A grammar lets a model write calls in its own form, and what it lets through is read as calls."""

import json
import re

import pytest
from llguidance import LLMatcher

from gateway.engine import Choice, Grammar, InvalidRequest, JsonObject, JsonSchema, Regex, Tool, Unsupported
from gateway_hf.constrain.vocabulary import read_vocabulary
from gateway_hf.tools.forms import FORMS, GENERIC
from gateway_hf.tools.grammar import CallRules, arguments_schema, write_grammar
from gateway_hf.tools.parser import marks_of
from tests.support.tiny_models import make_tokenizer
from tests.unit.hf.tools.test_parser import parse, told

EVERY_FORM = [*FORMS, GENERIC]
forms = pytest.mark.parametrize("form", EVERY_FORM, ids=lambda form: form.name)
specials = pytest.mark.parametrize("are_special", [False, True], ids=["as text", "as special tokens"])
WEATHER = Tool(
    "weather",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"type": "string", "enum": ["c", "f"]},
            "days": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["city"],
    },
)
TIME = Tool("get-time")
# As each form spells the arguments `{"city": "Paris", "days": [1, 2]}`, and none.
SPELLED = {
    "json": ('{"city": "Paris", "days": [1, 2]}', "{}"),
    "parameters": ("<parameter=city>\nParis\n</parameter>\n<parameter=days>\n[1, 2]\n</parameter>\n", ""),
    "keywords": ('city="Paris", days=[1, 2]', ""),
    "fields:<escape>": ("city:<escape>Paris<escape>,days:[1, 2]", ""),
    'fields:<|"|>': ('city:<|"|>Paris<|"|>,days:[1, 2]', ""),
}


class Held:
    """A grammar over a tiny vocabulary, in which a form's marks are special tokens or not."""

    def __init__(self, form, rules, *, are_special):
        marks = set(re.findall(r"<[|\w\uff5c▁/]+>|\[[A-Z_]+\]", " ".join(marks_of(form, None))))
        tokenizer = make_tokenizer(begins=False, chats=False)
        if are_special:
            tokenizer.add_tokens(sorted(marks), special_tokens=True)
        ids = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in marks} if are_special else {}
        self.tokenizer = tokenizer
        self.grammar = write_grammar(form, rules, ids)
        self.vocabulary = read_vocabulary(tokenizer.backend_tokenizer, len(tokenizer), [tokenizer.eos_token_id]).tokens

    def takes(self, text):
        matcher = LLMatcher(self.vocabulary, LLMatcher.grammar_from_lark(self.grammar), log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return matcher.consume_tokens(ids) and matcher.is_accepting()


def rules(*, tools=(WEATHER, TIME), required=True, single=False, content=None):
    return CallRules(tools, required, single, content)


def calls(form, *names):
    written, spelled = form.written, SPELLED[form.written.arguments]
    each = [written.call[0] + name + written.call[1] + spelled[name != "weather"] + written.call[2] for name in names]
    return written.block[0] + (written.between or "").join(each) + written.block[1]


@forms
@specials
def test_a_required_call_is_written_in_the_form_and_read_again(form, are_special):
    held = Held(form, rules(), are_special=are_special)
    names = ["weather", "get-time", "weather"] if form.written.between is not None else ["weather"]
    written = calls(form, *names)
    assert held.takes(written)
    text, _, read = told(parse([written], form, tools={"weather": WEATHER, "get-time": TIME}))
    assert (text, [name for name, _ in read]) == ("", names)
    assert json.loads(read[0][1]) == {"city": "Paris", "days": [1, 2]}
    for refused in ("Hello.", "", written[:-1] if not form.bare else "{", calls(form, "whether"), written + " more"):
        assert not held.takes(refused), refused


@forms
@specials
def test_a_single_call_is_followed_by_no_other(form, are_special):
    held = Held(form, rules(single=True), are_special=are_special)
    assert held.takes(calls(form, "weather"))
    assert not held.takes(calls(form, "weather", "weather"))


@forms
@specials
def test_a_call_that_may_be_made_is_free_until_it_begins(form, are_special):
    held = Held(form, rules(required=False), are_special=are_special)
    assert held.takes("I know it: <b>sunny</b>. [1]")
    assert held.takes("")
    before = "" if form.bare else "I look it up.\n"
    assert held.takes(before + calls(form, "weather"))
    assert not held.takes(before + calls(form, "whether"))


@forms
def test_what_an_answer_is_held_to_may_stand_in_place_of_a_call(form):
    for content, fits, other in (
        (JsonSchema({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}), '{"a": null}', "no"),
        (JsonObject(), '{"b": [1]}', "no"),
        (Regex("a/b+"), "a/bb", "a"),
        (Choice(("yes", "no")), "no", "maybe"),
    ):
        if form.bare and isinstance(content, JsonSchema | JsonObject):
            with pytest.raises(Unsupported, match="cannot be told from a call") as refused:
                write_grammar(form, rules(required=False, content=content), {})
            assert refused.value.param in {"json_schema", "json_object"}
            continue
        held = Held(form, rules(required=False, content=content), are_special=False)
        assert held.takes(fits)
        assert not held.takes(other)
        assert held.takes(calls(form, "weather"))


def test_a_grammar_cannot_stand_beside_tools():
    with pytest.raises(Unsupported, match="cannot be combined") as refused:
        write_grammar(GENERIC, rules(required=False, content=Grammar('start: "a"')), {})
    assert refused.value.param == "grammar"


@forms
def test_a_name_that_no_call_can_have_is_refused(form):
    with pytest.raises(InvalidRequest, match="no call can name") as refused:
        write_grammar(form, rules(tools=(Tool('a"b'),)), {})
    assert refused.value.param == "tools"


@pytest.mark.parametrize(
    ("arguments", "takes"),
    [
        ('{"city": "x"}', True),
        ('{"city": "x", "unit": "c"}', True),
        ('{"city": "x", "unit": "k"}', False),
        ('{"city": "x", "more": 1}', False),
        ('{"unit": "c"}', False),
        ('{"city": "x", "days": [1.5]}', False),
        ('{"city": "x"', False),
    ],
)
def test_arguments_are_held_to_the_schema(arguments, takes):
    held = Held(GENERIC, rules(), are_special=False)
    before, behind, end = GENERIC.written.call
    assert held.takes(f"{before}weather{behind}{arguments}{end}") is takes


def test_definitions_reach_the_schemas_of_single_parameters():
    schema = {"type": "object", "properties": {"at": {"$ref": "#/$defs/at"}}, "$defs": {"at": {"type": "integer"}}}
    form = next(form for form in FORMS if form.name == "pythonic")
    held = Held(form, rules(tools=(Tool("go", parameters=schema),)), are_special=False)
    assert held.takes("[go(at=1)]")
    assert not held.takes('[go(at="1")]')


def test_a_tool_without_parameters_has_no_arguments():
    schema = arguments_schema(TIME)
    assert (schema["type"], schema["properties"], schema["additionalProperties"]) == ("object", {}, False)


def test_a_schema_that_cannot_be_held_to_holds_loosely_unless_it_is_strict():
    parameters = {"properties": {"a": {"type": "array", "uniqueItems": True}}}
    assert arguments_schema(Tool("t", parameters=parameters))["x-guidance"]["lenient"]
    assert not arguments_schema(Tool("t", parameters=parameters, strict=True))["x-guidance"]["lenient"]
