"""From the engine's events to a `/v1/messages` answer, whole or as a stream."""

from collections.abc import Mapping

import msgspec
from msgspec import UNSET, UnsetType, structs

from gateway.api.anthropic.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Content,
    DeltaUsage,
    Ending,
    InputDelta,
    MessageDelta,
    MessageReply,
    MessageStart,
    MessageStop,
    MessageUsage,
    OutputTokens,
    Ping,
    SignatureDelta,
    StopReason,
    StreamEvent,
    TextContent,
    TextDelta,
    ThinkingContent,
    ThinkingDelta,
    TokenCount,
    ToolUseContent,
)
from gateway.api.anthropic.thinking import Signature, Thinking, sign
from gateway.api.exchange.constraint import structured_of
from gateway.api.exchange.dialect import Rendering
from gateway.engine import (
    Answer,
    Delta,
    Finished,
    FinishReason,
    GenerateEvent,
    Started,
    ToolDelta,
    Usage,
)

_encode = msgspec.json.Encoder().encode
_input_decoder = msgspec.json.Decoder(dict[str, object])

# There is no word for an answer that ran out of time; like the one that ran out of tokens it is cut off.
_REASONS: dict[FinishReason, StopReason] = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.DEADLINE: "max_tokens",
}


class WrittenBlock:
    """A block of a whole answer as its pieces come: of thought, of text, or the call by its number."""

    def __init__(self, kind: str | int, call_id: str = "", name: str = "") -> None:
        self.kind = kind
        self._call_id = call_id
        self._name = name
        self.pieces: list[str] = []

    def to_content(self, *, tells_thoughts: bool) -> Content:
        """Return the whole block; a thought that is not told has its signature only."""
        text = "".join(self.pieces)
        if self.kind == "thinking":
            return ThinkingContent(text if tells_thoughts else "", sign(text))
        if self.kind == "text":
            return TextContent(text)
        return ToolUseContent(self._call_id, self._name, _to_input(text))


class MessagesRendering(Rendering):
    """Renders one answer. A stream is made of blocks, one open at a time: of thought, of text, one for each call."""

    def __init__(self, model: str, request_id: str, thinking: Thinking | None = None) -> None:
        self._model = model
        self._tells_thoughts = thinking is None or thinking.display != "omitted"
        self._signature: Signature | None = None
        self._id = f"msg_{request_id}"
        self._index = -1
        self._open: str | int | None = None
        self._blocks: list[WrittenBlock] = []

    def note(self, event: GenerateEvent) -> None:
        """Take note of an event of a whole answer: thoughts, texts and calls are told in their order."""
        if isinstance(event, Delta):
            if event.reasoning:
                self._write("thinking", event.reasoning)
            if event.text:
                self._write("text", event.text)
        elif isinstance(event, ToolDelta):
            self._write(event.index, event.arguments, event.id, event.name)

    def _write(self, kind: str | int, text: str, call_id: str = "", name: str = "") -> None:
        if not self._blocks or self._blocks[-1].kind != kind:
            self._blocks.append(WrittenBlock(kind, call_id, name))
        self._blocks[-1].pieces.append(text)

    def to_piece(self, index: int, event: GenerateEvent) -> bytes:
        """Encode one event as SSE frames; an event that the client need not see is empty."""
        del index
        match event:
            case Delta():
                return self._thought(event.reasoning) + self._text(event.text)
            case ToolDelta():
                return self._call(event)
            case Started():
                self._model = event.model or self._model
                usage = Usage(event.prompt_tokens or 0, 0, event.cached_tokens)  # else the message's last event says it
                return to_sse(MessageStart(self._message((), None, usage))) + PING
            case Finished():
                last = MessageDelta(self._ending(event), _to_usage(event.usage))
                return self._close() + to_sse(last) + to_sse(MessageStop())

    def to_reply(self, answers: Mapping[int, Answer], usage: Usage) -> bytes:
        """Encode the whole answer, whose events were noted."""
        del usage
        started, finished = answers[0].started, answers[0].finished
        self._model = started.model or self._model
        content = tuple(block.to_content(tells_thoughts=self._tells_thoughts) for block in self._blocks)
        return _encode(self._message(content, _ending(finished), finished.usage))

    def _message(self, content: tuple[Content, ...], ending: Ending | None, usage: Usage) -> MessageReply:
        return MessageReply(
            id=self._id,
            model=self._model,
            content=content,
            stop_reason=None if ending is None else ending.stop_reason,
            stop_sequence=None if ending is None else ending.stop_sequence,
            usage=_to_message_usage(usage),
        )

    def _ending(self, finished: Finished) -> Ending:
        ending = _ending(finished)
        return structs.replace(ending, x_structured=structured_of(finished)) if self.is_structured else ending

    def _thought(self, text: str) -> bytes:
        if not text:
            return b""
        begun = self._begin("thinking", ThinkingContent())
        if self._signature is None:
            self._signature = Signature()
        self._signature.add(text)
        return begun + to_sse(BlockDelta(self._index, ThinkingDelta(text))) if self._tells_thoughts else begun

    def _text(self, text: str) -> bytes:
        if not text:
            return b""
        if self._open == "text":
            return to_sse(BlockDelta(self._index, TextDelta(text)))
        return self._begin("text", TextContent()) + to_sse(BlockDelta(self._index, TextDelta(text)))

    def _call(self, event: ToolDelta) -> bytes:
        begun = self._begin(event.index, ToolUseContent(event.id, event.name))
        if not event.arguments:
            return begun
        return begun + to_sse(BlockDelta(self._index, InputDelta(event.arguments)))

    def _begin(self, kind: str | int, content: Content) -> bytes:
        """Open a block, unless it is open already."""
        if self._open == kind:
            return b""
        closed = self._close()
        self._open = kind
        self._index += 1
        return closed + to_sse(BlockStart(self._index, content))

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open, signature, self._signature = None, self._signature, None
        signed = b"" if signature is None else to_sse(BlockDelta(self._index, SignatureDelta(str(signature))))
        return signed + to_sse(BlockStop(self._index))


def to_count(tokens: int) -> bytes:
    """Encode the answer of `count_tokens`."""
    return _encode(TokenCount(tokens))


def _ending(finished: Finished) -> Ending:
    if isinstance(finished.stop, str) and finished.reason is FinishReason.STOP:
        return Ending("stop_sequence", finished.stop)
    return Ending(_REASONS[finished.reason], None)


def _to_usage(usage: Usage) -> DeltaUsage:
    computed = usage.prompt_tokens - usage.cached_tokens
    return DeltaUsage(computed, usage.completion_tokens, usage.cached_tokens, output_tokens_details=_thoughts(usage))


def _to_message_usage(usage: Usage) -> MessageUsage:
    computed = usage.prompt_tokens - usage.cached_tokens
    return MessageUsage(computed, usage.completion_tokens, usage.cached_tokens, output_tokens_details=_thoughts(usage))


def _thoughts(usage: Usage) -> OutputTokens | UnsetType:
    return OutputTokens(usage.reasoning_tokens) if usage.reasoning_tokens else UNSET


def _to_input(arguments: str) -> dict[str, object]:
    """Read the arguments of a call; text that is no JSON object, as in an answer that was cut off, gives no input."""
    try:
        return _input_decoder.decode(arguments)
    except msgspec.MsgspecError:
        return {}


def to_sse(event: StreamEvent) -> bytes:
    """Encode an event as an SSE frame with its name."""
    name = event.__struct_config__.tag
    return b"event: %b\ndata: %b\n\n" % (str(name).encode(), _encode(event))


PING = to_sse(Ping())
