"""Bodies of `/v1/messages` and `/v1/messages/count_tokens`."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.api.anthropic.blocks import CacheControl, MessageParam, SystemBlock
from gateway.api.anthropic.thinking import Thinking
from gateway.api.anthropic.tools import ToolChoiceParam, ToolParam
from gateway.api.http.unknown_fields import ApiBody
from gateway.api.reference.examples import CONVERSATION
from gateway.api.reference.fields import Elsewhere, NoEffect, StopText

MaxTokens = Annotated[int, Meta(ge=1, le=2**31)]


class OutputFormat(Struct, frozen=True):
    """The JSON Schema that the answer keeps to."""

    type: Annotated[Literal["json_schema"], Meta(description="Always `json_schema`.", examples=["json_schema"])]
    schema: Annotated[dict[str, Any], Meta(description="The schema.", examples=[{"type": "object"}])]


class OutputConfig(Struct, frozen=True):
    """Options of the answer."""

    format: Annotated[
        OutputFormat | None,
        Meta(
            description="The shape of the answer. Left out: any text.",
            examples=[{"type": "json_schema", "schema": {"type": "object"}}],
        ),
    ] = None
    effort: Annotated[
        Literal["low", "medium", "high", "xhigh", "max"] | None,
        Meta(description="How hard to think first. Left out: as the model does.", examples=["low"]),
    ] = None


class Metadata(Struct, frozen=True):
    """The caller's own user; nothing here depends on it, and it is not kept."""

    user_id: Annotated[
        Annotated[str, Meta(max_length=512)] | None, Meta(description="The caller's own user.", examples=["u1"])
    ] = None


class CountBody(ApiBody, frozen=True, kw_only=True):
    """A conversation."""

    route: ClassVar[str] = "/v1/messages/count_tokens"
    generates: ClassVar[bool] = False

    model: Annotated[
        Annotated[str, Meta(min_length=1, max_length=512)],
        Meta(description="A model's name, its full id or its engine's name.", examples=["smollm2-135m-instruct"]),
    ]
    messages: Annotated[
        Annotated[tuple[MessageParam, ...], Meta(min_length=1, max_length=2_048)],
        Meta(
            description="The conversation. Where the last turn is the assistant's, the answer goes on with it.",
            examples=[CONVERSATION],
        ),
    ]
    system: Annotated[
        str | tuple[SystemBlock, ...], Meta(description="What goes before the conversation.", examples=["Be brief."])
    ] = ""
    tools: Annotated[
        Annotated[tuple[ToolParam, ...], Meta(max_length=128)] | None,
        Meta(
            description="Functions that the model may call. Left out: none.",
            examples=[[{"name": "get_weather", "input_schema": {"type": "object"}}]],
        ),
    ] = None
    tool_choice: Annotated[
        ToolChoiceParam | None,
        Meta(description="Whether to call a tool. Left out: `auto`.", examples=[{"type": "auto"}]),
    ] = None
    thinking: Annotated[
        Thinking | None,
        Meta(description="Whether to think first. Left out: as the model does.", examples=[{"type": "disabled"}]),
    ] = None
    output_config: Annotated[
        OutputConfig | None,
        Meta(description="Options of the answer. Left out: as the model likes.", examples=[{"format": None}]),
    ] = None
    cache_control: CacheControl = None
    user_profile_id: NoEffect = None
    workspace_id: NoEffect = None
    context_management: Elsewhere = None
    mcp_servers: Elsewhere = None
    speed: Elsewhere = None


class MessagesBody(CountBody, frozen=True, kw_only=True):
    """A conversation to answer."""

    route: ClassVar[str] = "/v1/messages"
    shape: ClassVar[str] = "output_config.format"
    generates: ClassVar[bool] = True

    max_tokens: Annotated[MaxTokens, Meta(description="Tokens of the answer.", examples=[64])]
    stream: Annotated[bool | None, Meta(description="Send the answer as Server-Sent Events. Left out: false.")] = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        Meta(description="0 always takes the likeliest token; higher is more varied. Left out: 1.", examples=[0]),
    ] = None
    top_p: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        Meta(
            description="Draw from the likeliest tokens that have this probability together; of 0, the likeliest one."
            " Left out: 1, off.",
            examples=[0.9],
        ),
    ] = None
    top_k: Annotated[
        Annotated[int, Meta(ge=0, le=2**31)] | None,
        Meta(description="Draw from this many of the likeliest tokens. Left out: 0, off.", examples=[40]),
    ] = None
    stop_sequences: Annotated[
        Annotated[tuple[StopText, ...], Meta(max_length=64)] | None,
        Meta(description="Texts that end the answer; they are cut off. Left out: none.", examples=[["\n\n"]]),
    ] = None
    metadata: Annotated[
        Metadata | None,
        Meta(description="Taken; nothing here depends on it. Left out: nothing.", examples=[{"user_id": "u1"}]),
    ] = None
    service_tier: Annotated[
        Literal["auto", "standard_only"],
        Meta(description="Taken; there is one tier here, `standard`.", examples=["auto"]),
    ] = "auto"
    output_format: Annotated[
        OutputFormat | None,
        Meta(
            description="The older word for `output_config.format`. Left out: any text.",
            examples=[{"type": "json_schema", "schema": {"type": "object"}}],
        ),
    ] = None
    container: Elsewhere = None
    diagnostics: Elsewhere = None
    inference_geo: Elsewhere = None
    compaction: Elsewhere = None
    fallbacks: Elsewhere = None
    thread: Elsewhere = None


messages_decoder = msgspec.json.Decoder(MessagesBody)
count_decoder = msgspec.json.Decoder(CountBody)
