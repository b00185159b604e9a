"""Answers of `/v1/messages`: a message, or the events of a stream that makes one."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.api.exchange.constraint import StructuredAnswer
from gateway.api.reference.examples import REQUEST_ID

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]
MessageStopReason = Annotated[
    StopReason,
    Meta(description="The model ended, ran out of tokens or time, wrote a stop sequence, or calls a tool."),
]
StopSequence = Annotated[str | None, Meta(description="The stop sequence that ended it.", examples=[None])]
Number = Annotated[int, Meta(description="Which block of the message.", examples=[0])]


class OutputTokens(Struct, frozen=True):
    """What the answer's tokens were for."""

    thinking_tokens: Annotated[int, Meta(description="Tokens of thought.", examples=[12])]


class DeltaUsage(Struct, frozen=True):
    """Tokens; those of the prompt that were found in the cache are counted apart."""

    input_tokens: Annotated[int, Meta(description="Tokens of the prompt that were computed.", examples=[5])]
    output_tokens: Annotated[int, Meta(description="Tokens of the answer.", examples=[3])]
    cache_read_input_tokens: Annotated[
        int, Meta(description="Tokens of the prompt that did not have to be computed again.", examples=[0])
    ] = 0
    cache_creation_input_tokens: Annotated[
        int, Meta(description="Always 0: nothing is paid for what is cached.", examples=[0])
    ] = 0
    output_tokens_details: Annotated[
        OutputTokens | UnsetType,
        Meta(description="Left out where nothing was thought.", examples=[{"thinking_tokens": 12}]),
    ] = UNSET


class MessageUsage(DeltaUsage, frozen=True):
    """The same, of a whole message."""

    service_tier: Annotated[Literal["standard"], Meta(description="Always `standard`.", examples=["standard"])] = (
        "standard"
    )


class TextContent(Struct, frozen=True, tag="text"):
    """A run of text."""

    text: Annotated[str, Meta(description="The text.", examples=["Paris."])] = ""


class ThinkingContent(Struct, frozen=True, tag="thinking"):
    """The model's thought before its answer; empty where it is not to be told."""

    thinking: Annotated[str, Meta(description="The thought.", examples=["The question is about geography."])] = ""
    signature: Annotated[
        str, Meta(description="Says when it comes back whether it was changed.", examples=["gw1.6f1a"])
    ] = ""


class ToolUseContent(Struct, frozen=True, tag="tool_use"):
    """A call of a tool."""

    id: Annotated[str, Meta(description="The call's id.", examples=["toolu_1"])]
    name: Annotated[str, Meta(description="The tool's name.", examples=["get_weather"])]
    input: Annotated[dict[str, Any], Meta(description="What it is called with.", examples=[{"city": "Paris"}])] = {}


Content = TextContent | ThinkingContent | ToolUseContent


class MessageReply(Struct, frozen=True, tag="message"):
    """An answer, whole or just begun."""

    id: Annotated[str, Meta(description="The request's id, marked.", examples=["msg_01KDVXK0M4Q2E6S9ZB3H7TJN5R"])]
    model: Annotated[str, Meta(description="The model's own name.", examples=["smollm2-135m-instruct"])]
    content: Annotated[
        tuple[Content, ...], Meta(description="What was said.", examples=[[{"type": "text", "text": "Paris."}]])
    ]
    stop_reason: Annotated[
        StopReason | None,
        Meta(description="Why it ended; null where it has just begun.", examples=["end_turn"]),
    ]
    stop_sequence: StopSequence
    usage: MessageUsage
    role: Annotated[Literal["assistant"], Meta(description="Always `assistant`.", examples=["assistant"])] = "assistant"


class MessageStart(Struct, frozen=True, tag="message_start"):
    """The message, with nothing in it."""

    message: MessageReply


class BlockStart(Struct, frozen=True, tag="content_block_start"):
    """A block begins."""

    index: Number
    content_block: Annotated[
        Content, Meta(description="The block, with nothing in it.", examples=[{"type": "text", "text": ""}])
    ]


class TextDelta(Struct, frozen=True, tag="text_delta"):
    """More of a text."""

    text: Annotated[str, Meta(description="The text.", examples=["Paris"])]


class ThinkingDelta(Struct, frozen=True, tag="thinking_delta"):
    """More of a thought."""

    thinking: Annotated[str, Meta(description="The thought.", examples=["The question"])]


class SignatureDelta(Struct, frozen=True, tag="signature_delta"):
    """The signature of a thought, behind it."""

    signature: Annotated[str, Meta(description="All of it.", examples=["gw1.6f1a"])]


class InputDelta(Struct, frozen=True, tag="input_json_delta"):
    """More of the JSON text of a tool's input."""

    partial_json: Annotated[str, Meta(description="The text.", examples=['{"city":'])]


class BlockDelta(Struct, frozen=True, tag="content_block_delta"):
    """More of a block."""

    index: Number
    delta: Annotated[
        TextDelta | ThinkingDelta | SignatureDelta | InputDelta,
        Meta(description="What is added to it.", examples=[{"type": "text_delta", "text": "Paris"}]),
    ]


class BlockStop(Struct, frozen=True, tag="content_block_stop"):
    """A block is complete."""

    index: Number


class Ending(Struct, frozen=True):
    """Why the message ends."""

    stop_reason: MessageStopReason
    stop_sequence: StopSequence
    x_structured: StructuredAnswer = UNSET


class MessageDelta(Struct, frozen=True, tag="message_delta"):
    """The end, and the tokens of all."""

    delta: Ending
    usage: DeltaUsage


class MessageStop(Struct, frozen=True, tag="message_stop"):
    """Nothing more comes."""


class Ping(Struct, frozen=True, tag="ping"):
    """Nothing yet."""


class MessageErrorDetail(Struct, frozen=True):
    """What went wrong."""

    type: Annotated[str, Meta(description="The family of the error.", examples=["invalid_request_error"])]
    message: Annotated[
        str,
        Meta(
            description="What went wrong, for people; begins with the field at fault.",
            examples=["temperature: expected `float` <= 1.0"],
        ),
    ]


class MessageError(Struct, frozen=True, tag="error"):
    """The body of every error, and the last event of a stream that failed."""

    error: MessageErrorDetail
    request_id: Annotated[
        str | None,
        Meta(description="The request's id, also in two headers.", examples=[REQUEST_ID]),
    ] = None


class TokenCount(Struct, frozen=True):
    """The tokens of a conversation."""

    input_tokens: Annotated[int, Meta(description="The tokens.", examples=[12])]


StreamEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping | MessageError
EVENTS = (MessageStart, BlockStart, BlockDelta, BlockStop, MessageDelta, MessageStop, Ping, MessageError)
