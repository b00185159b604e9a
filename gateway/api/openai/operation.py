"""How the documentation describes the two routes of OpenAI's dialect that generate."""

from msgspec import structs

from gateway.api.http.problems import ErrorBody
from gateway.api.openai.reply import (
    AnswerTokens,
    CachedTokens,
    ChatChoice,
    ChatChunk,
    ChatReply,
    ChunkChoice,
    ChunkDelta,
    CompletionReply,
    CompletionUsage,
    ReplyMessage,
    TextChoice,
)
from gateway.api.openai.schema import ChatCompletionBody, CompletionBody, CompletionChange
from gateway.api.reference.examples import CONVERSATION, MODEL, PROMPT, REQUEST_ID
from gateway.api.reference.operation import BodyDoc, ReplyDoc, StreamDoc, generation, lookup, question, to_frames

_CREATED = 1_767_225_600
_FINGERPRINT = "fp_3ba1c9a1d0"
_USAGE = CompletionUsage(5, 3, 8, CachedTokens(), AnswerTokens())

CHAT_ASKED = {
    "question": {"messages": CONVERSATION, "max_completion_tokens": 32, "temperature": 0},
    "stream": {"messages": CONVERSATION, "stream": True, "stream_options": {"include_usage": True}},
    "several": {"messages": CONVERSATION, "n": 2, "seed": 7, "temperature": 0.8},
}
TEXT_ASKED = {
    "text": {"prompt": PROMPT, "max_tokens": 16, "temperature": 0},
    "texts": {"prompt": [PROMPT, "Once upon a time"], "max_tokens": 16, "stop": "\n"},
    "stream": {"prompt": PROMPT, "max_tokens": 16, "stream": True},
    "echo": {"prompt": PROMPT, "max_tokens": 16, "echo": True},
}


def _chunk(*choices: ChunkChoice) -> ChatChunk:
    return ChatChunk(
        id=f"chatcmpl-{REQUEST_ID}",
        created=_CREATED,
        model=MODEL,
        system_fingerprint=_FINGERPRINT,
        choices=list(choices),
    )


def _text(text: str, *, is_last: bool, usage: CompletionUsage | None = None) -> CompletionReply:
    reply = CompletionReply(
        id=f"cmpl-{REQUEST_ID}",
        created=_CREATED,
        model=MODEL,
        system_fingerprint=_FINGERPRINT,
        choices=[TextChoice(index=0, text=text, logprobs=None, finish_reason="stop" if is_last else None)],
    )
    return reply if usage is None else structs.replace(reply, usage=usage)


CHAT_ANSWERED = ChatReply(
    id=f"chatcmpl-{REQUEST_ID}",
    created=_CREATED,
    model=MODEL,
    choices=[ChatChoice(0, ReplyMessage(content="Paris."), None, "stop")],
    usage=_USAGE,
    system_fingerprint=_FINGERPRINT,
)
CHAT_STREAMED = (
    _chunk(ChunkChoice(0, ChunkDelta(role="assistant", content="", refusal=None))),
    _chunk(ChunkChoice(0, ChunkDelta(content="Paris"))),
    _chunk(ChunkChoice(0, ChunkDelta(content="."))),
    _chunk(ChunkChoice(0, ChunkDelta(), finish_reason="stop")),
)
TEXT_ANSWERED = _text(" Paris.", is_last=True, usage=_USAGE)
TEXT_STREAMED = (_text(" Paris", is_last=False), _text(".", is_last=False), _text("", is_last=True))

_FRAMES = """Server-Sent Events, sent where `stream` is true. Each frame is `data: ` and one line of JSON:

- {kind}, any number of them: {pieces};
- with `stream_options.include_usage` one more, without choices: what all answers used;
- behind them comes `data: [DONE]`;
- `ErrorBody` in place of these two where an answer failed; the others are finished first.

A line that begins with a colon (`: ping`) only keeps the connection open."""
_CHAT_FRAMES = _FRAMES.format(
    kind="`ChatChunk`", pieces="for each answer its role, then the pieces of its text and its calls, then why it ended"
)
_TEXT_FRAMES = _FRAMES.format(
    kind="`CompletionReply`", pieces="for each answer the pieces of its text, then why it ended"
)


CHAT_OPERATION = generation(
    BodyDoc(ChatCompletionBody, CHAT_ASKED),
    ReplyDoc(ChatReply, CHAT_ANSWERED),
    StreamDoc((ChatChunk, ErrorBody), _CHAT_FRAMES, to_frames(CHAT_STREAMED)),
)
COMPLETION_OPERATION = generation(
    BodyDoc(CompletionBody, TEXT_ASKED),
    ReplyDoc(CompletionReply, TEXT_ANSWERED),
    StreamDoc((CompletionReply, ErrorBody), _TEXT_FRAMES, to_frames(TEXT_STREAMED)),
)
STORED_OPERATION = lookup(ReplyDoc(ChatReply, CHAT_ANSWERED), "The chat completion.")
CHANGE_OPERATION = question(
    BodyDoc(CompletionChange, {"batch": {"metadata": {"batch": "7"}}}),
    ReplyDoc(ChatReply, CHAT_ANSWERED),
    "The chat completion.",
)
