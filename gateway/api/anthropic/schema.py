"""What `/v1/messages` and `/v1/messages/count_tokens` take."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1, le=2**31)]
Stop = Annotated[str, Meta(min_length=1, max_length=512)]
ModelName = Annotated[str, Meta(min_length=1, max_length=512)]


class TextBlock(Struct, frozen=True, tag="text"):
    """A run of text."""

    text: str


class Base64Source(Struct, frozen=True, tag="base64"):
    """A file's bytes, written in base64."""

    media_type: str
    data: bytes


class UrlSource(Struct, frozen=True, tag="url"):
    """A file somewhere else."""

    url: str


class ImageBlock(Struct, frozen=True, tag="image"):
    """An image."""

    source: Base64Source | UrlSource


class ThinkingBlock(Struct, frozen=True, tag="thinking"):
    """What the model thought in an earlier turn."""

    thinking: str
    signature: str = ""


class RedactedThinkingBlock(Struct, frozen=True, tag="redacted_thinking"):
    """The same, unreadable."""

    data: str


class ToolUseBlock(Struct, frozen=True, tag="tool_use"):
    """A call that the model made."""

    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(Struct, frozen=True, tag="tool_result"):
    """What a tool answered."""

    tool_use_id: str
    content: str | tuple[TextBlock | ImageBlock, ...] = ""
    is_error: bool = False


Block = TextBlock | ImageBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock


class MessageParam(Struct, frozen=True):
    """One turn of the conversation."""

    role: Literal["user", "assistant"]
    content: str | tuple[Block, ...]


class ToolParam(Struct, frozen=True):
    """A function that the model may call."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    input_schema: dict[str, Any]
    description: str = ""
    type: Literal["custom"] | None = None
    cache_control: dict[str, Any] | None = None


class ToolChoice(Struct, frozen=True):
    """Whether to call a tool, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class Thinking(Struct, frozen=True):
    """Whether to think first."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Count | None = None


class OutputFormat(Struct, frozen=True):
    """The JSON Schema that the answer keeps to."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Struct, frozen=True):
    """How the answer is made."""

    format: OutputFormat | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class Metadata(Struct, frozen=True):
    """What the caller says of its own user; nothing here depends on it."""

    user_id: Annotated[str, Meta(max_length=512)] | None = None


class CountBody(Struct, frozen=True, kw_only=True):
    """A conversation."""

    model: ModelName
    messages: Annotated[tuple[MessageParam, ...], Meta(min_length=1, max_length=2_048)]
    system: str | tuple[TextBlock, ...] = ""
    tools: Annotated[tuple[ToolParam, ...], Meta(max_length=256)] = ()
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: dict[str, Any] | None = None


class MessagesBody(CountBody, frozen=True, kw_only=True):
    """A conversation to answer."""

    max_tokens: Count
    stream: bool = False
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31)] | None = None
    stop_sequences: Annotated[tuple[Stop, ...], Meta(max_length=64)] = ()
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] = "auto"


messages_decoder = msgspec.json.Decoder(MessagesBody)
count_decoder = msgspec.json.Decoder(CountBody)
