"""The events of a stream of `/v1/responses`, each with its number."""

from typing import Annotated

from msgspec import Meta, field

from gateway.api.responses.framing import NumberedEvent
from gateway.api.responses.items import OutputItem, OutputText, ThoughtText, TokenScores, no_scores
from gateway.api.responses.reply import ResponseObject

_PART = {"type": "output_text", "text": "Paris.", "annotations": [], "logprobs": []}
_ITEM = {"type": "message", "id": "msg_1_0", "status": "completed", "content": [_PART], "role": "assistant"}

ItemPlace = Annotated[int, Meta(description="Which item of the answer.", examples=[0])]
ItemId = Annotated[str, Meta(description="The item's id.", examples=["msg_01KDVXK0M4Q2E6S9ZB3H7TJN5R_0"])]
PartPlace = Annotated[int, Meta(description="Which part of the item; always 0.", examples=[0])]
EventItem = Annotated[OutputItem, Meta(description="The item.", examples=[_ITEM])]
EventPart = Annotated[OutputText | ThoughtText, Meta(description="The part.", examples=[_PART])]
PieceText = Annotated[str, Meta(description="The text.", examples=["Paris"])]


class ResponseCreated(NumberedEvent, frozen=True, kw_only=True, tag="response.created"):
    """The response, with nothing in it."""

    response: ResponseObject


class ResponseQueued(NumberedEvent, frozen=True, kw_only=True, tag="response.queued"):
    """It waits; only in the background."""

    response: ResponseObject


class ResponseInProgress(NumberedEvent, frozen=True, kw_only=True, tag="response.in_progress"):
    """It is being made."""

    response: ResponseObject


class ResponseCompleted(NumberedEvent, frozen=True, kw_only=True, tag="response.completed"):
    """It is whole."""

    response: ResponseObject


class ResponseIncomplete(NumberedEvent, frozen=True, kw_only=True, tag="response.incomplete"):
    """It ran out of tokens or time."""

    response: ResponseObject


class ResponseFailed(NumberedEvent, frozen=True, kw_only=True, tag="response.failed"):
    """It failed or was cancelled; its status says which."""

    response: ResponseObject


class ItemAdded(NumberedEvent, frozen=True, kw_only=True, tag="response.output_item.added"):
    """An item begins."""

    output_index: ItemPlace
    item: EventItem


class ItemDone(NumberedEvent, frozen=True, kw_only=True, tag="response.output_item.done"):
    """An item is over."""

    output_index: ItemPlace
    item: EventItem


class PartAdded(NumberedEvent, frozen=True, kw_only=True, tag="response.content_part.added"):
    """A part of an item begins."""

    item_id: ItemId
    output_index: ItemPlace
    content_index: PartPlace = 0
    part: EventPart


class PartDone(NumberedEvent, frozen=True, kw_only=True, tag="response.content_part.done"):
    """A part of an item is over."""

    item_id: ItemId
    output_index: ItemPlace
    content_index: PartPlace = 0
    part: EventPart


class OutputTextDelta(NumberedEvent, frozen=True, kw_only=True, tag="response.output_text.delta"):
    """More of a text."""

    item_id: ItemId
    output_index: ItemPlace
    content_index: PartPlace = 0
    logprobs: TokenScores = field(default_factory=no_scores)
    delta: PieceText


class OutputTextDone(NumberedEvent, frozen=True, kw_only=True, tag="response.output_text.done"):
    """A text is over."""

    item_id: ItemId
    output_index: ItemPlace
    content_index: PartPlace = 0
    logprobs: TokenScores = field(default_factory=no_scores)
    text: PieceText


class ThoughtDelta(NumberedEvent, frozen=True, kw_only=True, tag="response.reasoning_text.delta"):
    """More of a thought."""

    item_id: ItemId
    output_index: ItemPlace
    content_index: PartPlace = 0
    delta: PieceText


class ThoughtDone(NumberedEvent, frozen=True, kw_only=True, tag="response.reasoning_text.done"):
    """A thought is over."""

    item_id: ItemId
    output_index: ItemPlace
    content_index: PartPlace = 0
    text: PieceText


class ArgumentsDelta(NumberedEvent, frozen=True, kw_only=True, tag="response.function_call_arguments.delta"):
    """More of the arguments of a call."""

    item_id: ItemId
    output_index: ItemPlace
    delta: PieceText


class ArgumentsDone(NumberedEvent, frozen=True, kw_only=True, tag="response.function_call_arguments.done"):
    """The arguments of a call are over."""

    item_id: ItemId
    output_index: ItemPlace
    arguments: PieceText


EVENTS = (
    ResponseCreated,
    ResponseQueued,
    ResponseInProgress,
    ItemAdded,
    PartAdded,
    OutputTextDelta,
    OutputTextDone,
    ThoughtDelta,
    ThoughtDone,
    ArgumentsDelta,
    ArgumentsDone,
    PartDone,
    ItemDone,
    ResponseCompleted,
    ResponseIncomplete,
    ResponseFailed,
)
