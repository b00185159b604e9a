"""From the engine's events to a chat completion, whole or in chunks."""

from collections.abc import Mapping
from typing import Literal

from msgspec import UNSET, UnsetType

from gateway.api.openai.conversation import echoed
from gateway.api.openai.details import prompt_ids
from gateway.api.openai.logprobs import say_id, say_text, to_chat_logprobs, to_prompt_logprobs
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
from gateway.api.openai.thinking import shows_thoughts
from gateway.api.openai.tools import has_functions
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
        self._has_thoughts = shows_thoughts(body)
        self._has_functions = has_functions(body)
        self._say = say_id if body.return_tokens_as_token_ids else say_text
        self._echo = echoed(body) if body.echo else ""
        self._tail = b'},"logprobs":null,"finish_reason":null}' + self._end

    def to_piece(self, index: int, event: GenerateEvent) -> bytes:
        """Encode one event: the role comes first, and a chunk with the reason last."""
        match event:
            case Delta():
                return self._delta(index, event)
            case ToolDelta():
                return self._frame(ChunkChoice(index, self._call(event)))
            case Started():
                self._note_model(event)
                self._heads[index] = self._head + b'{"index":%d,"delta":{"content":' % index
                return self._begin(index)
            case Finished():
                reason, structured = self._reason(event.reason), self._structured(event)
                return self._frame(ChunkChoice(index, ChunkDelta(), finish_reason=reason, x_structured=structured))

    def _begin(self, index: int) -> bytes:
        first = self._frame(ChunkChoice(index, ChunkDelta(role="assistant", content="", refusal=None)))
        return first + self._frame(ChunkChoice(index, ChunkDelta(content=self._echo))) if self._echo else first

    def to_reply(self, answers: Mapping[int, Answer], usage: Usage) -> bytes:
        """Encode whole answers."""
        started = next(iter(answers.values())).started
        self._note_model(started)
        prompt = started.prompt_logprobs
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
                prompt_token_ids=prompt_ids(answers) if self._has_ids else UNSET,
                timings=self._timings(usage),
            )
        )

    def _delta(self, index: int, event: Delta) -> bytes:
        if not event.logprobs and not event.reasoning:
            return b"%b%b%b" % (self._heads[index], encode(event.text), self._tail) if event.text else b""
        if event.text or event.logprobs or self._has_thoughts:
            return self._frame(self._piece(index, event))
        return b""

    def _piece(self, index: int, event: Delta) -> ChunkChoice:
        thought = event.reasoning if event.reasoning and self._has_thoughts else UNSET
        content = UNSET if event.reasoning and not event.text else event.text
        delta = ChunkDelta(content=content, reasoning_content=thought, reasoning=thought)
        return ChunkChoice(index, delta, to_chat_logprobs(event.logprobs, self._say) if self._has_logprobs else None)

    def _call(self, event: ToolDelta) -> ChunkDelta:
        function = ReplyFunction(event.arguments, event.name or UNSET)
        if self._has_functions:
            return ChunkDelta(function_call=function)
        kind: Literal["function"] | UnsetType = "function" if event.id else UNSET
        return ChunkDelta(tool_calls=[CallPiece(index=event.index, id=event.id or UNSET, type=kind, function=function)])

    def _reason(self, reason: FinishReason) -> ChatReason:
        if self._has_functions and reason is FinishReason.TOOL_CALLS:
            return "function_call"
        return _REASONS[reason]

    def _choice(self, index: int, answer: Answer) -> ChatChoice:
        calls = [ReplyCall(call.id, ReplyFunction(call.arguments, call.name)) for call in answer.tool_calls]
        text = self._echo if self._is_silent else self._echo + answer.text
        thought = answer.reasoning if answer.reasoning and self._has_thoughts else UNSET
        message = ReplyMessage(
            content=None if calls and not text else text,
            tool_calls=calls if calls and not self._has_functions else UNSET,
            function_call=calls[0].function if calls and self._has_functions else UNSET,
            reasoning_content=thought,
            reasoning=thought,
        )
        shown = () if self._is_silent else answer.logprobs
        logprobs = to_chat_logprobs(shown, self._say) if self._has_logprobs else None
        reason = FinishReason.LENGTH if self._is_silent else answer.finished.reason
        return ChatChoice(index, message, logprobs, self._reason(reason), self._ids(answer))

    def _chunk(self, usage: CompletionUsage | None = None) -> ChatChunk:
        return ChatChunk(
            id=self._id,
            created=self._created,
            model=self._model,
            system_fingerprint=self._fingerprint,
            choices=[],
            usage=usage or UNSET,
        )
