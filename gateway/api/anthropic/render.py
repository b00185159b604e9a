"""From the engine's events to a `/v1/messages` answer, whole or as a stream."""

import msgspec

from gateway.api.anthropic.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Content,
    DeltaUsage,
    Ending,
    InputDelta,
    MessageDelta,
    MessageError,
    MessageErrorDetail,
    MessageReply,
    MessageStart,
    MessageStop,
    MessageUsage,
    Ping,
    StopReason,
    StreamEvent,
    TextContent,
    TextDelta,
    ThinkingContent,
    ThinkingDelta,
    TokenCount,
    ToolUseContent,
)
from gateway.api.http.problems import Problem
from gateway.engine import (
    Answer,
    Delta,
    Finished,
    FinishReason,
    GenerateEvent,
    Started,
    ToolCall,
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

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
    504: "timeout_error",
}
_SERVER_ERRORS = 500

# Anthropic's own status for too much to do, which its clients know as an exception of its own.
_OVERLOADED = 529
_OVERLOADS = frozenset({"overloaded", "memory_pressure", "queue_timeout"})


class MessagesRendering:
    """Renders one answer. A stream is made of blocks, one open at a time: of thought, of text, one for each call."""

    def __init__(self, model: str, request_id: str) -> None:
        self._model = model
        self._id = f"msg_{request_id}"
        self._index = -1
        self._open: str | int | None = None

    def to_frame(self, event: GenerateEvent) -> bytes:
        """Encode what one event comes to as SSE frames; what the client need not see is empty."""
        match event:
            case Delta():
                return self._thought(event.reasoning) + self._text(event.text)
            case ToolDelta():
                return self._call(event)
            case Started():
                usage = Usage(event.prompt_tokens, 0, event.cached_tokens)
                return _frame(MessageStart(self._message((), None, usage))) + PING
            case Finished():
                last = MessageDelta(_ending(event), _to_usage(event.usage))
                return self._close() + _frame(last) + _frame(MessageStop())

    def to_reply(self, answer: Answer) -> bytes:
        """Encode a whole answer."""
        content: list[Content] = []
        if answer.reasoning:
            content.append(ThinkingContent(answer.reasoning))
        if answer.text:
            content.append(TextContent(answer.text))
        content += [ToolUseContent(call.id, call.name, _to_input(call)) for call in answer.tool_calls]
        return _encode(self._message(tuple(content), _ending(answer.finished), answer.finished.usage))

    def _message(self, content: tuple[Content, ...], ending: Ending | None, usage: Usage) -> MessageReply:
        return MessageReply(
            id=self._id,
            model=self._model,
            content=content,
            stop_reason=None if ending is None else ending.stop_reason,
            stop_sequence=None if ending is None else ending.stop_sequence,
            usage=_to_message_usage(usage),
        )

    def _thought(self, text: str) -> bytes:
        if not text:
            return b""
        return self._begin("thinking", ThinkingContent()) + _frame(BlockDelta(self._index, ThinkingDelta(text)))

    def _text(self, text: str) -> bytes:
        if not text:
            return b""
        if self._open == "text":
            return _frame(BlockDelta(self._index, TextDelta(text)))
        return self._begin("text", TextContent()) + _frame(BlockDelta(self._index, TextDelta(text)))

    def _call(self, event: ToolDelta) -> bytes:
        begun = self._begin(event.index, ToolUseContent(event.id, event.name))
        if not event.arguments:
            return begun
        return begun + _frame(BlockDelta(self._index, InputDelta(event.arguments)))

    def _begin(self, kind: str | int, content: Content) -> bytes:
        """Open a block, unless it is open already."""
        if self._open == kind:
            return b""
        closed = self._close()
        self._open = kind
        self._index += 1
        return closed + _frame(BlockStart(self._index, content))

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return _frame(BlockStop(self._index))


def to_count(tokens: int) -> bytes:
    """Encode the answer of `count_tokens`."""
    return _encode(TokenCount(tokens))


def to_error(problem: Problem, request_id: str | None = None) -> bytes:
    """Encode the body of an error."""
    return _encode(error_body(problem, request_id))


def to_error_frame(problem: Problem, request_id: str | None = None) -> bytes:
    """Encode the event that ends a stream which failed."""
    return _frame(error_body(problem, request_id))


def to_status(problem: Problem) -> int:
    """Say the HTTP status of an error."""
    return _OVERLOADED if problem.code in _OVERLOADS else problem.status


def error_body(problem: Problem, request_id: str | None) -> MessageError:
    """Write the body of an error."""
    kind = _ERRORS.get(problem.status)
    if kind is None:
        kind = "api_error" if problem.status >= _SERVER_ERRORS else "invalid_request_error"
    is_said = problem.param is None or problem.param in problem.message
    message = problem.message if is_said else f"{problem.param}: {problem.message}"
    return MessageError(MessageErrorDetail(kind, message), request_id)


def _ending(finished: Finished) -> Ending:
    if isinstance(finished.stop, str) and finished.reason is FinishReason.STOP:
        return Ending("stop_sequence", finished.stop)
    return Ending(_REASONS[finished.reason], None)


def _to_usage(usage: Usage) -> DeltaUsage:
    return DeltaUsage(usage.prompt_tokens - usage.cached_tokens, usage.completion_tokens, usage.cached_tokens)


def _to_message_usage(usage: Usage) -> MessageUsage:
    return MessageUsage(usage.prompt_tokens - usage.cached_tokens, usage.completion_tokens, usage.cached_tokens)


def _to_input(call: ToolCall) -> dict[str, object]:
    """Read the arguments of a call; what is no JSON object, as of an answer that was cut off, is no input."""
    try:
        return _input_decoder.decode(call.arguments)
    except msgspec.MsgspecError:
        return {}


def _frame(event: StreamEvent) -> bytes:
    name = event.__struct_config__.tag
    return b"event: %b\ndata: %b\n\n" % (str(name).encode(), _encode(event))


PING = _frame(Ping())
