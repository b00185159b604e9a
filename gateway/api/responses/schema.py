"""Bodies of `/v1/responses` and `/v1/responses/input_tokens`."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct, field

from gateway.api.exchange.thinking import EffortWord
from gateway.api.exchange.tools import TOOL_NAME
from gateway.api.http.unknown_fields import ApiBody
from gateway.api.reference.examples import QUESTION
from gateway.api.reference.fields import AskedModel, Elsewhere, Label, NoEffect, Temperature, TopP
from gateway.api.responses.items import InputItem

_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
_ANSWER = "resp_01KDVXK0M4Q2E6S9ZB3H7TJN5R"

Labels = Annotated[dict[Annotated[str, Meta(max_length=64)], Label], Meta(max_length=16)]
MOST_ALTERNATIVES = 20
StoredName = Annotated[str, Meta(min_length=1, max_length=128)]


class TextFormat(Struct, frozen=True, kw_only=True):
    """The shape of the answer."""

    type: Annotated[
        Literal["text", "json_object", "json_schema"], Meta(description="Any text, a JSON object, or a schema's.")
    ]
    name: Annotated[str | None, Meta(description="The schema's name.", examples=["city"])] = None
    schema: Annotated[dict[str, Any] | None, Meta(description="The schema.", examples=[_SCHEMA])] = None
    description: Annotated[str | None, Meta(description="What it is for.", examples=["A city."])] = None
    strict: Annotated[bool | None, Meta(description="Schemas are always kept to. Left out: false.")] = None


class TextConfig(Struct, frozen=True, kw_only=True):
    """Options of the text."""

    format: Annotated[
        TextFormat | None, Meta(description="The shape of the answer. Left out: any text.", examples=[{"type": "text"}])
    ] = None
    verbosity: Annotated[
        Literal["low", "medium", "high"] | None,
        Meta(description="Refused unless it is `medium`: no model is told.", examples=["medium"]),
    ] = None


class ReasoningConfig(Struct, frozen=True, kw_only=True):
    """Whether to think first, and how hard."""

    effort: Annotated[
        EffortWord | None,
        Meta(description="How hard; `none` is not at all. Left out: as the model does.", examples=["none"]),
    ] = None
    summary: Annotated[
        Literal["auto", "concise", "detailed"] | None,
        Meta(
            description="Thoughts are told as they are: `auto` is taken, a summary is refused. Left out: `auto`.",
            examples=["auto"],
        ),
    ] = None
    generate_summary: Elsewhere = None
    encrypted_content: Elsewhere = None
    context: Elsewhere = None
    mode: Elsewhere = None


class FunctionDefinition(Struct, frozen=True, kw_only=True):
    """A function that the model may call."""

    type: Annotated[
        str, Meta(description="Always `function`; tools that run on a server are refused.", examples=["function"])
    ]
    name: Annotated[
        Annotated[str, Meta(pattern=TOOL_NAME)] | None,
        Meta(description="Its name.", examples=["get_weather"]),
    ] = None
    description: Annotated[str | None, Meta(description="What it does.", examples=["Tells the weather."])] = None
    parameters: Annotated[dict[str, Any] | None, Meta(description="Their JSON Schema.", examples=[_SCHEMA])] = None
    strict: Annotated[
        bool | None, Meta(description="Whether its arguments always keep to the schema. Left out: false.")
    ] = None
    allowed_callers: Elsewhere = None
    defer_loading: Elsewhere = None
    is_async: Elsewhere = field(name="async", default=None)
    output_schema: NoEffect = None


class FunctionChoice(Struct, frozen=True, kw_only=True):
    """Which functions may be called: one by its name, or with `allowed_tools` those of a list."""

    type: Annotated[str, Meta(description="`function` or `allowed_tools`; others are refused.", examples=["function"])]
    name: Annotated[str | None, Meta(description="The function.", examples=["get_weather"])] = None
    mode: Annotated[
        Literal["auto", "required"] | None, Meta(description="Whether one of them has to be called.", examples=["auto"])
    ] = None
    tools: Annotated[
        tuple[dict[str, Any], ...] | None,
        Meta(description="The functions of the list.", examples=[[{"type": "function", "name": "get_weather"}]]),
    ] = None


class ResponseStreamOptions(Struct, frozen=True):
    """Options of a stream."""

    include_obfuscation: Annotated[
        bool | None, Meta(description="Refused where it is true: events are never padded.")
    ] = None


class ConversationName(Struct, frozen=True):
    """A stored conversation."""

    id: Annotated[StoredName, Meta(description="Its id.", examples=["conv_01KDVXK0M4Q2E6S9ZB3H7TJN5R"])]


class PromptBody(ApiBody, frozen=True, kw_only=True):
    """A question, or a conversation to go on with."""

    route: ClassVar[str] = "/v1/responses/input_tokens"
    generates: ClassVar[bool] = False

    model: AskedModel = None
    input: Annotated[
        str | Annotated[tuple[InputItem, ...], Meta(max_length=2_048)] | None,
        Meta(
            description="A question, or the items of a conversation. Left out: nothing beside what it goes on from.",
            examples=[QUESTION, [{"role": "user", "content": QUESTION}]],
        ),
    ] = None
    instructions: Annotated[
        str | None,
        Meta(
            description="What goes before everything else, for this answer only. Left out: none.",
            examples=["Be brief."],
        ),
    ] = None
    previous_response_id: Annotated[
        StoredName | None,
        Meta(description="The stored response that this goes on from. Left out: none.", examples=[_ANSWER]),
    ] = None
    conversation: Annotated[
        StoredName | ConversationName | None,
        Meta(
            description="The stored conversation that this goes on with; not with `previous_response_id`. Left out:"
            " none.",
            examples=["conv_01KDVXK0M4Q2E6S9ZB3H7TJN5R"],
        ),
    ] = None
    text: Annotated[
        TextConfig | None,
        Meta(description="Options of the text. Left out: any text.", examples=[{"format": {"type": "text"}}]),
    ] = None
    tools: Annotated[
        Annotated[tuple[FunctionDefinition, ...], Meta(max_length=128)] | None,
        Meta(
            description="Functions that the model may call. Left out: none.",
            examples=[[{"type": "function", "name": "get_weather", "parameters": _SCHEMA}]],
        ),
    ] = None
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | FunctionChoice | None,
        Meta(description="Whether to call a function, and which. Left out: `auto`.", examples=["auto"]),
    ] = None
    parallel_tool_calls: Annotated[
        bool | None, Meta(description="Whether an answer may have several calls. Left out: true.")
    ] = None
    reasoning: Annotated[
        ReasoningConfig | None,
        Meta(description="Whether to think first. Left out: as the model does.", examples=[{"effort": "none"}]),
    ] = None
    truncation: Annotated[
        Literal["auto", "disabled"] | None,
        Meta(
            description="With `auto` an input that is too long for the model is answered without its oldest parts; what"
            " `input_tokens` counts is all of it. Left out: `disabled`, it is refused.",
            examples=["auto"],
        ),
    ] = None


class ResponsesBody(PromptBody, frozen=True, kw_only=True):
    """A conversation to answer."""

    route: ClassVar[str] = "/v1/responses"
    shape: ClassVar[str] = "text.format"
    generates: ClassVar[bool] = True

    stream: Annotated[bool | None, Meta(description="Send the answer as Server-Sent Events. Left out: false.")] = None
    stream_options: Annotated[
        ResponseStreamOptions | None,
        Meta(description="Options of a stream. Left out: none.", examples=[{"include_obfuscation": False}]),
    ] = None
    max_output_tokens: Annotated[
        Annotated[int, Meta(ge=1, le=2**31)] | None,
        Meta(
            description="Tokens of the answer, thoughts included. Left out: what the context has left.", examples=[64]
        ),
    ] = None
    temperature: Temperature = None
    top_p: TopP = None
    metadata: Annotated[
        Labels | None,
        Meta(description="Said again in the answer, and stored with it. Left out: none.", examples=[{"batch": "7"}]),
    ] = None
    store: Annotated[
        bool | None,
        Meta(description="Whether the answer is stored, for its caller alone. Left out: true."),
    ] = None
    background: Annotated[
        bool | None,
        Meta(
            description="Answer at once with the status `queued`, and make the answer though the client leaves; it has"
            " to be stored. Left out: false."
        ),
    ] = None
    include: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="Further parts of the answer: `message.output_text.logprobs` tells how likely each token of a"
            " text was, `reasoning.encrypted_content` each thought in one word, too, which may be sent back in its"
            " place; others are refused. Left out: none.",
            examples=[["message.output_text.logprobs"]],
        ),
    ] = None
    top_logprobs: Annotated[
        Annotated[int, Meta(ge=0, le=MOST_ALTERNATIVES)] | None,
        Meta(
            description="Tell so many likeliest tokens in the place of each token of a text, and how likely each was;"
            " any but 0 asks for `message.output_text.logprobs`, too. Left out: 0.",
            examples=[2],
        ),
    ] = None
    user: Annotated[
        Label | None,
        Meta(description="The caller's own user; nothing here depends on it. Left out: none.", examples=["u1"]),
    ] = None
    safety_identifier: Annotated[
        Label | None, Meta(description="Taken like `user`. Left out: none.", examples=["u1"])
    ] = None
    prompt_cache_key: Annotated[
        Label | None,
        Meta(description="Taken; equal prefixes are found without it. Left out: none.", examples=["support"]),
    ] = None
    service_tier: Annotated[
        Literal["auto", "default", "flex", "scale", "priority"] | None,
        Meta(
            description="Taken; there is one tier, and the answer says so: `default`. Left out: that.",
            examples=["auto"],
        ),
    ] = None
    max_tool_calls: Annotated[
        Annotated[int, Meta(ge=1, le=2**31)] | None,
        Meta(
            description="Taken; it bounds the calls of tools on a server, of which there are none. Left out: none.",
            examples=[1],
        ),
    ] = None
    access_programs: Elsewhere = None
    background_options: Elsewhere = None
    context_management: Elsewhere = None
    image: Elsewhere = None
    moderation: Elsewhere = None
    prompt: Elsewhere = None
    prompt_cache_options: Elsewhere = None
    prompt_cache_retention: Elsewhere = None


responses_decoder = msgspec.json.Decoder(ResponsesBody)
input_tokens_decoder = msgspec.json.Decoder(PromptBody)
