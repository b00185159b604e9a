"""Every word for the shape of an answer is one constraint, or is refused by its name."""

import msgspec
import pytest
from msgspec import structs

from gateway.api.exchange.constraint import (
    SHAPE_NEEDS,
    SHAPE_REFUSED,
    SHAPE_TAKEN,
    reword_shape,
    structured_headers,
    structured_of,
    to_constraint,
)
from gateway.api.exchange.shape import MOST_CHARACTERS, MOST_CHOICES, ShapedBody
from gateway.api.native.schema import GenerateBody
from gateway.api.native.translate import reword as reword_native
from gateway.api.native.translate import to_request
from gateway.api.openai.translate import reword
from gateway.config import GenerateSettings
from gateway.engine import (
    Capability,
    Choice,
    Finished,
    FinishReason,
    Grammar,
    InvalidRequest,
    JsonObject,
    JsonSchema,
    Regex,
    Unsupported,
    Usage,
    negotiate,
)
from tests.support.openai_dialect import ABLE, asked, chat, prompts, text

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WRITTEN = msgspec.json.encode(SCHEMA).decode()
HELD = JsonSchema(SCHEMA)
GBNF = 'root ::= "yes"'
# Word -> a value of it, what that asks for, and the path of the part that asks.
WORDS = [
    ("response_format", {"type": "json_object"}, JsonObject(), "response_format.json_object"),
    (
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        HELD,
        "response_format.json_schema.schema",
    ),
    (
        "response_format",
        {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": False}},
        HELD,
        "response_format.json_schema.schema",
    ),
    (
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "n"}},
        JsonSchema({}),
        "response_format.json_schema.schema",
    ),
    ("response_format", {"type": "json_object", "schema": SCHEMA}, HELD, "response_format.schema"),
    ("response_format", {"type": "json_schema", "schema": SCHEMA}, HELD, "response_format.schema"),
    ("structured_outputs", {"json": SCHEMA}, HELD, "structured_outputs.json"),
    ("structured_outputs", {"json": WRITTEN}, HELD, "structured_outputs.json"),
    ("structured_outputs", {"json_object": True}, JsonObject(), "structured_outputs.json_object"),
    ("structured_outputs", {"regex": "a+"}, Regex("a+"), "structured_outputs.regex"),
    ("structured_outputs", {"choice": ["a", "b"]}, Choice(("a", "b")), "structured_outputs.choice"),
    ("structured_outputs", {"grammar": GBNF}, Grammar(GBNF), "structured_outputs.grammar"),
    ("structured_outputs", {"regex": "a+", "disable_fallback": True}, Regex("a+"), "structured_outputs.regex"),
    ("guided_json", SCHEMA, HELD, "guided_json"),
    ("guided_json", WRITTEN, HELD, "guided_json"),
    ("guided_json_object", True, JsonObject(), "guided_json_object"),
    ("guided_regex", "a+", Regex("a+"), "guided_regex"),
    ("guided_choice", ["a", "b"], Choice(("a", "b")), "guided_choice"),
    ("guided_grammar", GBNF, Grammar(GBNF), "guided_grammar"),
    ("grammar", GBNF, Grammar(GBNF), "grammar"),
    ("grammar", 'start: "yes"', Grammar('start: "yes"'), "grammar"),
    ("ebnf", GBNF, Grammar(GBNF), "ebnf"),
    ("json_schema", SCHEMA, HELD, "json_schema"),
    ("json_schema", {}, JsonSchema({}), "json_schema"),
    ("json_schema", WRITTEN, HELD, "json_schema"),
    ("regex", "a+", Regex("a+"), "regex"),
    ("format", "json", JsonObject(), "format"),
    ("format", SCHEMA, HELD, "format"),
]
# Values that ask for any text.
NOTHING = [
    ("response_format", {"type": "text"}),
    ("guided_json_object", False),
    *((word, "") for word in ("guided_json", "json_schema", "guided_regex", "regex", "format")),
    *((word, "") for word in ("guided_grammar", "grammar", "ebnf")),
]


def generate(**fields):
    return msgspec.json.decode(msgspec.json.encode({"prompt": "hi"} | fields), type=GenerateBody)


MAKES = {"chat": chat, "text": text, "native": generate}


def translated(body):
    """Translate a body of any of the dialects."""
    if isinstance(body, GenerateBody):
        return to_request(body, ABLE, GenerateSettings(), "1")
    return asked(body)


def worded(error, body):
    (reword_native if isinstance(body, GenerateBody) else reword)(error, body)
    return error.param


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
@pytest.mark.parametrize(("word", "value", "constraint", "_path"), WORDS)
def test_every_word_is_a_constraint(make, word, value, constraint, _path):
    assert translated(make(**{word: value})).constraint == constraint


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
@pytest.mark.parametrize(("word", "value"), [*NOTHING, *((word, None) for word in ShapedBody.__struct_fields__)])
def test_a_word_may_ask_for_any_text(make, word, value):
    assert translated(make(**{word: value})) == translated(make())


def test_every_word_is_in_a_test():
    assert {word for word, *_ in WORDS} == set(ShapedBody.__struct_fields__)


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
@pytest.mark.parametrize(("word", "value", "constraint", "path"), WORDS)
def test_a_model_that_cannot_do_it_refuses_it_by_its_word(make, word, value, constraint, path):
    kind = Capability(type(constraint).__struct_config__.tag)
    body = make(**{word: value})
    with pytest.raises(Unsupported) as refused:
        negotiate(translated(body), structs.replace(ABLE, capabilities=ABLE.capabilities - {kind}))
    assert worded(refused.value, body) == word
    assert worded(InvalidRequest("it cannot be compiled", param=kind), body) == path


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_an_error_about_something_else_keeps_its_field(make):
    body = make(guided_regex="a")
    assert worded(InvalidRequest("no", param="temperature"), body) == "temperature"
    assert not reword_shape(InvalidRequest("no"), body)
    error = InvalidRequest("the parameters of a tool", param="json_schema")
    assert not reword_shape(error, make())
    assert error.param == "json_schema"


def test_every_part_that_the_models_page_lists_is_one_that_there_is():
    for path in (*SHAPE_NEEDS, *SHAPE_REFUSED, *SHAPE_TAKEN):
        word, _, part = path.partition(".")
        assert word in ShapedBody.__struct_fields__
        kind = {"response_format": ("json_object", "json_schema"), "format": ("json", "schema")}.get(word)
        fields = kind or msgspec.structs.asdict(structured()).keys()
        assert not part or part in fields
    assert {path.partition(".")[0] for path in SHAPE_NEEDS} == set(ShapedBody.__struct_fields__)


def structured(**parts):
    return generate(structured_outputs=parts).structured_outputs


@pytest.mark.parametrize(
    ("fields", "param", "what"),
    [
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "required"),
        (
            {"response_format": {"type": "json_schema", "schema": {}, "json_schema": {"schema": {}}}},
            "response_format.schema",
            "not both",
        ),
        ({"structured_outputs": {}}, "structured_outputs", "exactly one"),
        ({"structured_outputs": {"json_object": False}}, "structured_outputs", "exactly one"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs", "these are 2"),
        ({"structured_outputs": {"regex": "a", "whitespace_pattern": " "}}, SHAPE_REFUSED[2], "not supported"),
        ({"structured_outputs": {"json": {}, "disable_any_whitespace": True}}, SHAPE_REFUSED[0], "not supported"),
        ({"structured_outputs": {"structural_tag": "{}"}}, SHAPE_REFUSED[3], "not supported"),
        ({"guided_regex": "a", "regex": "b"}, "regex", "guided_regex and regex ask for different shapes"),
        ({"grammar": GBNF, "response_format": {"type": "json_object"}}, "grammar", "give one of them"),
        ({"format": "json", "guided_json": {}}, "format", "guided_json and format"),
        ({"guided_json": "[]"}, "guided_json", "no JSON Schema"),
        ({"json_schema": "{"}, "json_schema", "no JSON Schema"),
        ({"guided_json": '{"a":' * 4_000}, "guided_json", "no JSON Schema"),
        ({"json_schema": {"$ref": "https://x"}}, "json_schema", "$.$ref"),
        ({"guided_choice": ["a" * MOST_CHARACTERS, "b"]}, "guided_choice", "characters"),
    ],
)
def test_what_contradicts_itself_or_cannot_be_read_is_refused_by_name(fields, param, what):
    for make in MAKES.values():
        body = make(**fields)
        with pytest.raises(InvalidRequest) as refused:
            to_constraint(body)
        assert worded(refused.value, body) == param
        assert what in refused.value.message


def test_two_words_may_ask_for_the_same():
    body = chat(response_format={"type": "json_schema", "json_schema": {"schema": SCHEMA}}, guided_json=SCHEMA)
    assert to_constraint(body) == HELD
    assert to_constraint(chat(format="json", response_format={"type": "text"})) == JsonObject()


def test_a_schema_of_objects_says_more_of_an_object():
    assert to_constraint(chat(response_format={"type": "json_object"}, json_schema=SCHEMA)) == HELD
    assert to_constraint(chat(guided_json=SCHEMA, format="json")) == HELD
    with pytest.raises(InvalidRequest, match="different shapes"):
        to_constraint(chat(response_format={"type": "json_object"}, json_schema={"type": "array"}))


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("guided_regex", "a" * (MOST_CHARACTERS + 1)),
        ("grammar", "a" * (MOST_CHARACTERS + 1)),
        ("json_schema", "a" * (MOST_CHARACTERS + 1)),
        ("guided_choice", []),
        ("guided_choice", [""]),
        ("guided_choice", ["a"] * (MOST_CHOICES + 1)),
        ("format", "yaml"),
        ("response_format", {"type": "structural_tag"}),
    ],
)
def test_a_value_out_of_its_bounds_is_never_decoded(word, value):
    with pytest.raises(msgspec.ValidationError, match=word):
        generate(**{word: value})


def test_an_answer_without_tokens_is_held_to_no_shape():
    with pytest.raises(InvalidRequest) as refused:
        prompts(chat(max_completion_tokens=0, prompt_logprobs=1, guided_regex="a"))
    assert refused.value.param == "max_completion_tokens"


@pytest.mark.parametrize(
    ("reason", "stop", "structured"),
    [
        (FinishReason.STOP, None, "valid"),
        (FinishReason.STOP, "\n", "truncated"),
        (FinishReason.STOP, 5, "truncated"),
        (FinishReason.LENGTH, None, "truncated"),
        (FinishReason.DEADLINE, None, "truncated"),
        (FinishReason.TOOL_CALLS, None, msgspec.UNSET),
    ],
)
def test_only_an_answer_that_ended_by_itself_has_all_of_its_shape(reason, stop, structured):
    assert structured_of(Finished(reason, Usage(1, 1), stop)) is structured


def test_of_several_answers_one_that_was_cut_counts():
    valid, cut, called = (
        Finished(reason, Usage(1, 1)) for reason in (FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS)
    )
    assert structured_headers([valid, valid]) == {"x-structured": "valid"}
    assert structured_headers([valid, cut]) == {"x-structured": "truncated"}
    assert structured_headers([valid, called]) == {"x-structured": "valid"}
    assert structured_headers([called]) == {}
