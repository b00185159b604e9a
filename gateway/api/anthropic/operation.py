"""How the documentation describes Anthropic's routes."""

from gateway.api.anthropic.events import EVENTS, MessageReply, MessageUsage, TextContent, TokenCount
from gateway.api.anthropic.render import MessagesRendering
from gateway.api.anthropic.schema import CountBody, MessagesBody
from gateway.api.reference.examples import CONVERSATION, MODEL, REQUEST_ID
from gateway.api.reference.operation import BodyDoc, ReplyDoc, StreamDoc, generation, question
from gateway.engine import Delta, Finished, FinishReason, Started, Usage

_LEAST = {"model": "default", "max_tokens": 32, "messages": CONVERSATION}

ASKED = {
    "question": _LEAST | {"system": "Be brief.", "temperature": 0},
    "stream": _LEAST | {"stream": True, "stop_sequences": ["\n\n"]},
}
COUNTED = {"question": {"model": "default", "messages": CONVERSATION}}
ANSWERED = MessageReply(
    id=f"msg_{REQUEST_ID}",
    model=MODEL,
    content=(TextContent("Paris."),),
    stop_reason="end_turn",
    stop_sequence=None,
    usage=MessageUsage(5, 3),
)
_FRAMES = """Server-Sent Events, sent where `stream` is true. Each has a name, which is also the `type` of its JSON:

- `message_start`: the message, with nothing in it;
- for each block of text, of thought, or call of a tool: `content_block_start`, any number of `content_block_delta`, and
  `content_block_stop`;
- `message_delta`: why the message ends, and the tokens of all; then `message_stop`, and nothing more;
- `error` in place of these two where the answer failed;
- `ping` anywhere: it only keeps the connection open."""


def _streamed() -> str:
    rendering = MessagesRendering(MODEL, REQUEST_ID)
    events = (Started(5), Delta("Paris"), Delta("."), Finished(FinishReason.STOP, Usage(5, 3)))
    return b"".join(rendering.to_frame(event) for event in events).decode()


MESSAGES_OPERATION = generation(
    BodyDoc(MessagesBody, ASKED), ReplyDoc(MessageReply, ANSWERED), StreamDoc(EVENTS, _FRAMES, _streamed())
)
COUNT_OPERATION = question(BodyDoc(CountBody, COUNTED), ReplyDoc(TokenCount, TokenCount(12)), "The count.")
