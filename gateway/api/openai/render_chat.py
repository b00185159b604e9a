"""From the engine's events to a chat completion, whole or in chunks."""

from collections.abc import Mapping

from msgspec import UNSET

from gateway.api.openai.logprobs import to_chat_logprobs, to_prompt_logprobs
from gateway.api.openai.render import ChoiceRendering, encode
from gateway.api.openai.reply import (
    CallPiece,
    ChatChoice,
    ChatChunk,
    ChatReason,
    ChatReply,
    ChunkChoice,
    ChunkDelta,
    CompletionUsage,
    ReplyCall,
    ReplyFunction,
    ReplyMessage,
)
from gateway.api.openai.schema import ChatCompletionBody
from gateway.engine import Answer, Delta, Finished, FinishReason, GenerateEvent, ModelCard, Started, ToolDelta, Usage

# There is no word for an answer that ran out of time; like the one that ran out of tokens it is cut off.
_REASONS: dict[FinishReason, ChatReason] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.DEADLINE: "length",
}


class ChatRendering(ChoiceRendering):
    """Renders the answers to a conversation."""

    def __init__(self, body: ChatCompletionBody, card: ModelCard, request_id: str) -> None:
        super().__init__(body, card, f"chatcmpl-{request_id}")
        self._has_logprobs = bool(body.logprobs)
        self._is_silent = 0 in (body.max_tokens, body.max_completion_tokens)
        self._metadata = UNSET if body.metadata is None else body.metadata
        self._has_prompt = body.prompt_logprobs is not None
        self._tail = b'},"logprobs":null,"finish_reason":null}' + self._end

    def to_piece(self, index: int, event: GenerateEvent) -> bytes:
        """Encode one event: the role comes first, and a chunk with the reason last."""
        match event:
            case Delta():
                return self._delta(index, event)
            case ToolDelta():
                return self._frame(ChunkChoice(index, ChunkDelta(tool_calls=[_to_call_piece(event)])))
            case Started():
                self._heads[index] = self._head + b'{"index":%d,"delta":{"content":' % index
                return self._frame(ChunkChoice(index, ChunkDelta(role="assistant", content="", refusal=None)))
            case Finished():
                return self._frame(ChunkChoice(index, ChunkDelta(), finish_reason=_REASONS[event.reason]))

    def to_reply(self, answers: Mapping[int, Answer], usage: Usage) -> bytes:
        """Encode whole answers."""
        prompt = next(iter(answers.values())).started.prompt_logprobs
        return encode(
            ChatReply(
                id=self._id,
                created=self._created,
                model=self._model,
                choices=[self._choice(index, answer) for index, answer in sorted(answers.items())],
                usage=self._usage(usage),
                system_fingerprint=self._fingerprint,
                metadata=self._metadata,
                prompt_logprobs=to_prompt_logprobs(prompt or ()) if self._has_prompt else UNSET,
            )
        )

    def _delta(self, index: int, event: Delta) -> bytes:
        if not event.logprobs and not event.reasoning:
            return b"%b%b%b" % (self._heads[index], encode(event.text), self._tail) if event.text else b""
        self.note(event)
        content = UNSET if event.reasoning and not event.text else event.text
        delta = ChunkDelta(content=content, reasoning_content=event.reasoning or UNSET)
        return self._frame(ChunkChoice(index, delta, to_chat_logprobs(event.logprobs) if self._has_logprobs else None))

    def _choice(self, index: int, answer: Answer) -> ChatChoice:
        calls = [ReplyCall(call.id, ReplyFunction(call.arguments, call.name)) for call in answer.tool_calls]
        text = "" if self._is_silent else answer.text
        message = ReplyMessage(
            content=None if calls and not text else text,
            tool_calls=calls or UNSET,
            reasoning_content=answer.reasoning or UNSET,
        )
        logprobs = to_chat_logprobs(() if self._is_silent else answer.logprobs) if self._has_logprobs else None
        reason = FinishReason.LENGTH if self._is_silent else answer.finished.reason
        return ChatChoice(index, message, logprobs, _REASONS[reason])

    def _chunk(self, usage: CompletionUsage | None = None) -> ChatChunk:
        return ChatChunk(
            id=self._id,
            created=self._created,
            model=self._model,
            system_fingerprint=self._fingerprint,
            choices=[],
            usage=usage or UNSET,
        )


def _to_call_piece(event: ToolDelta) -> CallPiece:
    is_first = bool(event.id)
    return CallPiece(
        index=event.index,
        id=event.id or UNSET,
        type="function" if is_first else UNSET,
        function=ReplyFunction(event.arguments, event.name or UNSET),
    )
