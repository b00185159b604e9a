"""Conversations in OpenAI's dialect: messages with their parts, tools, and the shape of the answer."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gateway.api.reference.examples import QUESTION
from gateway.api.reference.fields import Elsewhere, NoEffect

_NAME = "get_weather"
_ARGUMENTS = '{"city": "Paris"}'
_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_CALL = {"id": "call_1", "type": "function", "function": {"name": _NAME, "arguments": _ARGUMENTS}}

ToolName = Annotated[
    str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$", description="The function's name.", examples=["get_weather"])
]
JsonTree = dict[str, Any]


class ImageUrl(Struct, frozen=True):
    """An image, as a data URL."""

    url: Annotated[
        str,
        Meta(
            description="The image itself: `data:image/png;base64,…`. Nothing is fetched.",
            examples=["data:image/png;base64,iVBORw0KGgo="],
        ),
    ]
    detail: Annotated[
        Literal["auto", "low", "high", "original"] | None,
        Meta(description="How closely to look; the model decides.", examples=["auto"]),
    ] = None


class ContentPart(Struct, frozen=True):
    """A part of a message."""

    type: Annotated[
        Literal["text", "image_url", "refusal", "input_audio", "file"],
        Meta(description="What the part is; sound and files are refused."),
    ]
    text: Annotated[str | None, Meta(description="The text of a text part.", examples=["What is this?"])] = None
    image_url: Annotated[
        ImageUrl | None,
        Meta(description="The image of an image part.", examples=[{"url": "data:image/png;base64,iVBORw0KGgo="}]),
    ] = None
    refusal: Annotated[str | None, Meta(description="The text of a refusal.", examples=["I cannot."])] = None
    input_audio: Elsewhere = None
    file: Elsewhere = None
    cache_control: NoEffect = None
    prompt_cache_breakpoint: NoEffect = None


class CalledFunction(Struct, frozen=True):
    """The name of a called function, and its arguments."""

    name: ToolName
    arguments: Annotated[str, Meta(description="JSON text, as the model wrote it.", examples=[_ARGUMENTS])]
    parsed_arguments: NoEffect = None


class FunctionCall(Struct, frozen=True):
    """A call that the model made."""

    id: Annotated[str, Meta(description="The call's id.", examples=["call_1"])]
    function: CalledFunction
    type: Annotated[Literal["function"], Meta(description="Always `function`.")] = "function"
    index: NoEffect = None


class InputMessage(Struct, frozen=True):
    """One turn of a conversation."""

    role: Annotated[
        Literal["system", "developer", "user", "assistant", "tool"],
        Meta(description="Who said it; `developer` is another word for `system`.", examples=["user"]),
    ]
    content: Annotated[
        str | tuple[ContentPart, ...] | None,
        Meta(
            description="What was said: a text, or parts, whose texts are joined.",
            examples=[QUESTION, [{"type": "text", "text": "Hello"}]],
        ),
    ] = None
    tool_calls: Annotated[
        tuple[FunctionCall, ...] | None, Meta(description="The assistant's calls.", examples=[[_CALL]])
    ] = None
    tool_call_id: Annotated[
        str | None, Meta(description="The call that a tool's message answers.", examples=["call_1"])
    ] = None
    refusal: Annotated[
        str | None, Meta(description="What the assistant said when it refused.", examples=["I cannot."])
    ] = None
    audio: Elsewhere = None
    function_call: Elsewhere = None
    name: NoEffect = None
    annotations: NoEffect = None
    cache_control: NoEffect = None
    parsed: NoEffect = None
    reasoning: NoEffect = None
    reasoning_content: NoEffect = None


class ToolFunction(Struct, frozen=True):
    """A function that the model may call."""

    name: ToolName
    description: Annotated[str | None, Meta(description="What it does.", examples=["Tells the weather."])] = None
    parameters: Annotated[
        JsonTree | None, Meta(description="The JSON Schema of its arguments.", examples=[_PARAMETERS])
    ] = None
    strict: Annotated[bool | None, Meta(description="Refused where it is true: calls are not held to it.")] = None


class FunctionTool(Struct, frozen=True):
    """A tool; functions are the only ones here."""

    function: ToolFunction
    type: Annotated[Literal["function"], Meta(description="Always `function`.")] = "function"
    cache_control: NoEffect = None


class ChosenFunction(Struct, frozen=True):
    """The function to call."""

    name: ToolName


class ChosenTool(Struct, frozen=True):
    """The one tool to call."""

    function: ChosenFunction
    type: Annotated[Literal["function"], Meta(description="Always `function`.")] = "function"


class NamedSchema(Struct, frozen=True):
    """A JSON Schema with a name."""

    name: ToolName
    schema: Annotated[JsonTree | None, Meta(description="The JSON Schema.", examples=[_PARAMETERS])] = None
    description: Annotated[str | None, Meta(description="What it is for; no model is told.", examples=["A city."])] = (
        None
    )
    strict: Annotated[bool | None, Meta(description="The answer is held to the schema either way.")] = None


class ResponseFormat(Struct, frozen=True):
    """The shape of the answer."""

    type: Annotated[
        Literal["text", "json_object", "json_schema"],
        Meta(description="Any text, a JSON object, or JSON that a schema accepts."),
    ]
    json_schema: Annotated[
        NamedSchema | None,
        Meta(description="The schema, where the type is `json_schema`.", examples=[{"name": "city", "schema": {}}]),
    ] = None


class StructuredOutputs(Struct, frozen=True, kw_only=True):
    """The shape of the answer, in vLLM's words; exactly one of these."""

    json: Annotated[JsonTree | None, Meta(description="A JSON Schema.", examples=[_PARAMETERS])] = None
    json_object: Annotated[bool | None, Meta(description="Whether any JSON object will do.")] = None
    regex: Annotated[
        str | None, Meta(description="A pattern that the whole answer matches.", examples=["[A-Z][a-z]+"])
    ] = None
    choice: Annotated[
        tuple[str, ...] | None, Meta(description="The texts to choose from.", examples=[["yes", "no"]])
    ] = None
    grammar: Annotated[str | None, Meta(description="A grammar in EBNF.", examples=['start: "yes" | "no"'])] = None
