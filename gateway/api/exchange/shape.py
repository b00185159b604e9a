"""The words for the shape of an answer, in the spelling of every server, as fields that bodies share."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gateway.api.http.unknown_fields import ApiBody
from gateway.api.reference.fields import Elsewhere, NoEffect

MOST_CHARACTERS = 65_536
MOST_CHOICES = 1_000

_CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_GBNF = 'root ::= "yes" | "no"'
_PATTERN = "[A-Z][a-z]+"
_Text = Annotated[str, Meta(max_length=MOST_CHARACTERS)]
_Schema = dict[str, Any] | _Text | None
_Texts = (
    Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=MOST_CHARACTERS)], ...],
        Meta(min_length=1, max_length=MOST_CHOICES),
    ]
    | None
)


class NamedSchema(Struct, frozen=True):
    """A JSON Schema with a name."""

    name: Annotated[
        Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")] | None,
        Meta(description="What it is called; no model is told. Left out: nothing.", examples=["city"]),
    ] = None
    schema: Annotated[
        dict[str, Any] | None, Meta(description="The JSON Schema. Left out: any JSON.", examples=[_CITY])
    ] = None
    description: Annotated[str | None, Meta(description="What it is for; no model is told.", examples=["A city."])] = (
        None
    )
    strict: Annotated[bool | None, Meta(description="The answer is held to the schema either way.")] = None


class ResponseFormat(Struct, frozen=True):
    """The shape of the answer, in OpenAI's words."""

    type: Annotated[
        Literal["text", "json_object", "json_schema"],
        Meta(description="Any text, a JSON object, or JSON that a schema accepts."),
    ]
    json_schema: Annotated[
        NamedSchema | None,
        Meta(description="The schema, where the type is `json_schema`.", examples=[{"name": "city", "schema": {}}]),
    ] = None
    schema: Annotated[
        dict[str, Any] | None,
        Meta(description="The schema itself, as llama.cpp takes it; with either of the JSON types.", examples=[_CITY]),
    ] = None


class StructuredOutputs(Struct, frozen=True, kw_only=True):
    """The shape of the answer, in vLLM's words; exactly one of the first five."""

    json: Annotated[_Schema, Meta(description="A JSON Schema, or its text.", examples=[_CITY])] = None
    json_object: Annotated[bool | None, Meta(description="Whether any JSON object will do.")] = None
    regex: Annotated[
        _Text | None, Meta(description="A pattern that the whole answer matches.", examples=[_PATTERN])
    ] = None
    choice: Annotated[_Texts, Meta(description="The texts to choose from.", examples=[["yes", "no"]])] = None
    grammar: Annotated[_Text | None, Meta(description="A grammar, in GBNF or in Lark's words.", examples=[_GBNF])] = (
        None
    )
    disable_any_whitespace: Elsewhere = None
    disable_additional_properties: Elsewhere = None
    whitespace_pattern: Elsewhere = None
    structural_tag: Elsewhere = None
    disable_fallback: NoEffect = None


class ShapedBody(ApiBody, frozen=True, kw_only=True):
    """The words for the shape of an answer; several of them may only ask for the same one."""

    response_format: Annotated[
        ResponseFormat | None,
        Meta(
            description="The shape of the answer. Left out: any text.",
            examples=[{"type": "json_schema", "json_schema": {"name": "city", "schema": _CITY}}],
        ),
    ] = None
    structured_outputs: Annotated[
        StructuredOutputs | None,
        Meta(
            description="The same in vLLM's words. Left out: any text.",
            examples=[{"choice": ["yes", "no"]}],
        ),
    ] = None
    guided_json: Annotated[
        _Schema, Meta(description="vLLM's older word for `structured_outputs.json`. Left out: any text.", examples=[{}])
    ] = None
    guided_json_object: Annotated[
        bool | None, Meta(description="vLLM's older word for `structured_outputs.json_object`. Left out: false.")
    ] = None
    guided_regex: Annotated[
        _Text | None,
        Meta(description="vLLM's older word for `structured_outputs.regex`. Left out: any text.", examples=[_PATTERN]),
    ] = None
    guided_choice: Annotated[
        _Texts,
        Meta(description="vLLM's older word for `structured_outputs.choice`. Left out: any text.", examples=[["yes"]]),
    ] = None
    guided_grammar: Annotated[
        _Text | None,
        Meta(description="vLLM's older word for `structured_outputs.grammar`. Left out: any text.", examples=[_GBNF]),
    ] = None
    grammar: Annotated[
        _Text | None,
        Meta(description="A grammar, in GBNF or in Lark's words; empty is none. Left out: none.", examples=[_GBNF]),
    ] = None
    ebnf: Annotated[
        _Text | None, Meta(description="SGLang's word for `grammar`. Left out: none.", examples=[_GBNF])
    ] = None
    json_schema: Annotated[
        _Schema,
        Meta(
            description="A JSON Schema as llama.cpp takes it, or its text as SGLang does. Left out: any text.",
            examples=[_CITY],
        ),
    ] = None
    regex: Annotated[
        _Text | None,
        Meta(
            description="SGLang's word for a pattern that the whole answer matches. Left out: any text.",
            examples=[_PATTERN],
        ),
    ] = None
    format: Annotated[
        Literal["", "json"] | dict[str, Any] | None,
        Meta(
            description="Ollama's word: `json` for a JSON object, or a JSON Schema. Left out: any text.",
            examples=["json", _CITY],
        ),
    ] = None
