"""What `/v1/messages` answers: a message, or the events of a stream that makes one."""

from typing import Any, Literal

from msgspec import Struct

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class UsageBody(Struct, frozen=True):
    """Tokens; those of the prompt that were found in the cache are counted apart."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class MessageUsage(UsageBody, frozen=True):
    """The same, of a whole message."""

    service_tier: Literal["standard"] = "standard"


class TextContent(Struct, frozen=True, tag="text"):
    """A run of text."""

    text: str = ""
    citations: None = None


class ThinkingContent(Struct, frozen=True, tag="thinking"):
    """What the model thought before it answered; nobody signs it here."""

    thinking: str = ""
    signature: str = ""


class ToolUseContent(Struct, frozen=True, tag="tool_use"):
    """A call of a tool."""

    id: str
    name: str
    input: dict[str, Any] = {}


Content = TextContent | ThinkingContent | ToolUseContent


class MessageReply(Struct, frozen=True, tag="message"):
    """An answer, whole or just begun."""

    id: str
    model: str
    content: tuple[Content, ...]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage
    role: Literal["assistant"] = "assistant"


class MessageStart(Struct, frozen=True, tag="message_start"):
    """The message, with nothing in it."""

    message: MessageReply


class BlockStart(Struct, frozen=True, tag="content_block_start"):
    """A block begins."""

    index: int
    content_block: Content


class TextDelta(Struct, frozen=True, tag="text_delta"):
    """More of a text."""

    text: str


class ThinkingDelta(Struct, frozen=True, tag="thinking_delta"):
    """More of a thought."""

    thinking: str


class InputDelta(Struct, frozen=True, tag="input_json_delta"):
    """More of the JSON text of a tool's input."""

    partial_json: str


class BlockDelta(Struct, frozen=True, tag="content_block_delta"):
    """More of a block."""

    index: int
    delta: TextDelta | ThinkingDelta | InputDelta


class BlockStop(Struct, frozen=True, tag="content_block_stop"):
    """A block is complete."""

    index: int


class Ending(Struct, frozen=True):
    """Why the message ends."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(Struct, frozen=True, tag="message_delta"):
    """The end, and the tokens of all."""

    delta: Ending
    usage: UsageBody


class MessageStop(Struct, frozen=True, tag="message_stop"):
    """Nothing more comes."""


class Ping(Struct, frozen=True, tag="ping"):
    """Nothing yet."""


class ErrorDetail(Struct, frozen=True):
    """What went wrong."""

    type: str
    message: str


class ErrorBody(Struct, frozen=True, tag="error"):
    """The body of every error, and the last event of a stream that failed."""

    error: ErrorDetail
    request_id: str | None = None


class TokenCount(Struct, frozen=True):
    """The tokens of a conversation."""

    input_tokens: int


StreamEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping | ErrorBody
