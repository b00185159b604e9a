"""How the documentation describes the routes of `/v1/responses`."""

import msgspec
from msgspec import structs

from gateway.api.exchange.paging import StoredList
from gateway.api.http.problems import ErrorBody
from gateway.api.reference.examples import MODEL, QUESTION, REQUEST_ID
from gateway.api.reference.operation import BodyDoc, ReplyDoc, StreamDoc, generation, lookup, question, reading
from gateway.api.responses.begin import to_response
from gateway.api.responses.conversation_schema import ConversationChange, ItemsBody, NewConversation
from gateway.api.responses.events import EVENTS
from gateway.api.responses.items import InputItem, OutputMessage, OutputText
from gateway.api.responses.render import ResponseRendering
from gateway.api.responses.reply import (
    InputTokenCount,
    ResponseInputTokens,
    ResponseObject,
    ResponseOutputTokens,
    ResponseUsage,
    StoredConversation,
)
from gateway.api.responses.schema import PromptBody, ResponsesBody
from gateway.engine import Delta, Finished, FinishReason, ModelCard, Started, Usage

ASKED = {
    "question": {"input": QUESTION, "instructions": "Be brief.", "temperature": 0},
    "stream": {"input": [{"role": "user", "content": QUESTION}], "stream": True, "max_output_tokens": 32},
    "background": {"input": QUESTION, "background": True, "metadata": {"batch": "7"}},
}
COUNTED = {"question": {"input": QUESTION}}


_CARD = ModelCard(name=MODEL, context_window=8_192, capabilities=frozenset())
_BEGUN = to_response(ResponsesBody(input=QUESTION), _CARD, REQUEST_ID)
ANSWERED = structs.replace(
    _BEGUN,
    status="completed",
    completed_at=_BEGUN.created_at + 1,
    output=[OutputMessage(f"msg_{REQUEST_ID}_0", "completed", [OutputText("Paris.")])],
    usage=ResponseUsage(5, ResponseInputTokens(), 3, ResponseOutputTokens(), 8),
)
_FRAMES = """Server-Sent Events, sent where `stream` is true. Each has a name, which is also the `type` of its JSON, and
a `sequence_number`:

- `response.created`, in the background `response.queued`, and `response.in_progress`: the response, with nothing in
  it;
- for each item `response.output_item.added`, what comes of it, and `response.output_item.done`; of a message or a
  thought that is `response.content_part.added`, pieces of its text, the text, and `response.content_part.done`; of a
  call pieces of its arguments, and the arguments;
- last the whole response: `response.completed`, or `response.incomplete` where it ran out of tokens or time, or
  `response.failed`. Nothing comes behind it.

A line that begins with a colon (`: ping`) only keeps the connection open."""


def _streamed() -> str:
    rendering = ResponseRendering(_BEGUN)
    events = (Started(5), Delta("Paris"), Delta("."), Finished(FinishReason.STOP, Usage(5, 3)))
    return b"".join(rendering.to_frame(event) for event in events).decode()


_STREAM = StreamDoc((*EVENTS, ErrorBody), _FRAMES, _streamed())
RESPONSES_OPERATION = generation(BodyDoc(ResponsesBody, ASKED), ReplyDoc(ResponseObject, ANSWERED), _STREAM)
COUNT_OPERATION = question(BodyDoc(PromptBody, COUNTED), ReplyDoc(InputTokenCount, InputTokenCount(12)), "The count.")
STORED_OPERATION = reading(ReplyDoc(ResponseObject, ANSWERED), _STREAM)
_CONVERSATION = StoredConversation(id=f"conv_{REQUEST_ID}", created_at=_BEGUN.created_at, metadata={"topic": "demo"})
_ITEM = {
    "type": "message",
    "id": f"item_{REQUEST_ID}_0",
    "status": "completed",
    "role": "user",
    "content": [{"type": "input_text", "text": QUESTION}],
}
_ADDED = [{"role": "user", "content": QUESTION}]
CONVERSATION_OPERATION = question(
    BodyDoc(NewConversation, {"question": {"items": _ADDED, "metadata": {"topic": "demo"}}, "empty": {}}),
    ReplyDoc(StoredConversation, _CONVERSATION),
    "The conversation.",
)
DESCRIBE_OPERATION = question(
    BodyDoc(ConversationChange, {"topic": {"metadata": {"topic": "demo"}}}),
    ReplyDoc(StoredConversation, _CONVERSATION),
    "The conversation.",
)
ADD_OPERATION = question(
    BodyDoc(ItemsBody, {"question": {"items": _ADDED}}),
    ReplyDoc(StoredList, StoredList([_ITEM], f"item_{REQUEST_ID}_0", f"item_{REQUEST_ID}_0", has_more=False)),
    "The items, with their ids.",
)
ITEM_OPERATION = lookup(ReplyDoc(InputItem, msgspec.convert(_ITEM, InputItem)), "The item.")
