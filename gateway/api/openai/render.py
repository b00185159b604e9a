"""From the engine's events to what a chat completion or a completion answers, whole or in chunks.

The head of a chunk is encoded once a stream, so that a chunk of text costs one small encoding and one joining.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from hashlib import blake2b

import msgspec
from msgspec import UNSET

from gateway.api.openai.logprobs import to_chat_logprobs, to_prompt_logprobs, to_text_logprobs
from gateway.api.openai.reply import (
    AnswerTokens,
    CachedTokens,
    CallPiece,
    ChatChoice,
    ChatChunk,
    ChatReason,
    ChatReply,
    ChunkChoice,
    ChunkDelta,
    CompletionReply,
    CompletionUsage,
    ReplyCall,
    ReplyFunction,
    ReplyMessage,
    TextChoice,
    TextReason,
)
from gateway.api.openai.schema import ChatCompletionBody, CommonBody, CompletionBody
from gateway.engine import (
    Answer,
    Delta,
    Finished,
    FinishReason,
    GenerateEvent,
    ModelCard,
    Started,
    TokenLogprob,
    ToolDelta,
    Usage,
)

_encode = msgspec.json.Encoder().encode

# There is no word for an answer that ran out of time; like the one that ran out of tokens it is cut off.
_REASONS: dict[FinishReason, ChatReason] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.DEADLINE: "length",
}


class Rendering(ABC):
    """Renders the answers to one request, each by its number."""

    def __init__(self, body: CommonBody, card: ModelCard, request_id: str) -> None:
        self._id = request_id
        self._model = card.name
        self._fingerprint = to_fingerprint(card)
        self._created = int(time.time())
        self._has_usage = bool(body.stream_options and body.stream_options.include_usage)
        self._thoughts = 0
        self._heads: dict[int, bytes] = {}
        self._head = b"data: " + _encode(self._chunk())[: -len(b"]}")]
        self._end = b'],"usage":null}\n\n' if self._has_usage else b"]}\n\n"

    @abstractmethod
    def to_piece(self, index: int, event: GenerateEvent) -> bytes:
        """Encode one event of an answer as SSE frames; what the client need not see is empty."""

    @abstractmethod
    def to_reply(self, answers: Mapping[int, Answer], usage: Usage) -> bytes:
        """Encode whole answers."""

    def to_frame(self, event: GenerateEvent) -> bytes:
        """Encode one event of the only answer."""
        piece = self.to_piece(0, event)
        return piece + self.to_last(event.usage) if isinstance(event, Finished) else piece

    def to_last(self, usage: Usage) -> bytes:
        """Encode the chunk that tells the usage, where it was asked for."""
        return b"data: %b\n\n" % _encode(self._chunk(self._usage(usage))) if self._has_usage else b""

    def note(self, event: GenerateEvent) -> None:
        """Count the tokens of thought."""
        if isinstance(event, Delta) and event.reasoning:
            self._thoughts += event.tokens

    @abstractmethod
    def _chunk(self, usage: CompletionUsage | None = None) -> ChatChunk | CompletionReply:
        """Make a chunk without choices."""

    def _usage(self, usage: Usage) -> CompletionUsage:
        return CompletionUsage(
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.prompt_tokens + usage.completion_tokens,
            CachedTokens(usage.cached_tokens),
            AnswerTokens(self._thoughts),
        )

    def _frame(self, choice: ChunkChoice | TextChoice) -> bytes:
        return b"%b%b%b" % (self._head, _encode(choice), self._end)


class ChatRendering(Rendering):
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
        return _encode(
            ChatReply(
                id=self._id,
                created=self._created,
                model=self._model,
                choices=[self._choice(index, answer) for index, answer in sorted(answers.items())],
                usage=self._usage(_shown(usage, is_silent=self._is_silent)),
                system_fingerprint=self._fingerprint,
                metadata=self._metadata,
                prompt_logprobs=to_prompt_logprobs(prompt or ()) if self._has_prompt else UNSET,
            )
        )

    def _delta(self, index: int, event: Delta) -> bytes:
        if not event.logprobs and not event.reasoning:
            return b"%b%b%b" % (self._heads[index], _encode(event.text), self._tail) if event.text else b""
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
        return ChatChoice(index, message, logprobs, _REASONS[answer.finished.reason])

    def _chunk(self, usage: CompletionUsage | None = None) -> ChatChunk:
        return ChatChunk(
            id=self._id,
            created=self._created,
            model=self._model,
            system_fingerprint=self._fingerprint,
            choices=[],
            usage=usage or UNSET,
        )


class TextRendering(Rendering):
    """Renders the answers to prompts, which `n` answers each follow one after another."""

    def __init__(self, body: CompletionBody, card: ModelCard, request_id: str) -> None:
        super().__init__(body, card, f"cmpl-{request_id}")
        self._n = body.n or 1
        self._prompts = (body.prompt,) if isinstance(body.prompt, str) else body.prompt
        self._has_echo = bool(body.echo)
        self._has_logprobs = body.logprobs is not None
        self._has_prompt = body.prompt_logprobs is not None
        self._is_silent = body.max_tokens == 0
        self._said: dict[int, int] = {}
        self._tail = b',"logprobs":null,"finish_reason":null}' + self._end

    def to_piece(self, index: int, event: GenerateEvent) -> bytes:
        """Encode one event: the prompt comes first, where it is echoed, and a chunk with the reason last."""
        match event:
            case Delta():
                return b"" if self._is_silent else self._delta(index, event)
            case Started():
                return self._begin(index, event)
            case Finished():
                return self._frame(self._choice(index, "", (), (), _to_text_reason(event)))
            case _:
                return b""

    def to_last(self, usage: Usage) -> bytes:
        """Encode the chunk that tells the usage, where it was asked for."""
        return super().to_last(_shown(usage, is_silent=self._is_silent))

    def to_reply(self, answers: Mapping[int, Answer], usage: Usage) -> bytes:
        """Encode whole answers."""
        return _encode(
            CompletionReply(
                id=self._id,
                created=self._created,
                model=self._model,
                system_fingerprint=self._fingerprint,
                choices=[self._whole(index, answer) for index, answer in sorted(answers.items())],
                usage=self._usage(_shown(usage, is_silent=self._is_silent)),
            )
        )

    def _begin(self, index: int, started: Started) -> bytes:
        self._heads[index] = self._head + b'{"index":%d,"text":' % index
        self._said[index] = 0
        if not self._has_echo:
            return b""
        prompt = (started.prompt_logprobs or ()) if self._has_logprobs else ()
        choice = self._choice(index, self._prompt(index, started), prompt, (), None)
        self._said[index] = len(choice.text)
        return self._frame(choice)

    def _delta(self, index: int, event: Delta) -> bytes:
        if not event.logprobs:
            self._said[index] += len(event.text)
            return b"%b%b%b" % (self._heads[index], _encode(event.text), self._tail) if event.text else b""
        choice = self._choice(index, event.text, (), event.logprobs, None)
        self._said[index] += sum(len(token.text) for token in event.logprobs)
        return self._frame(choice)

    def _whole(self, index: int, answer: Answer) -> TextChoice:
        self._said[index] = 0
        echoed = self._prompt(index, answer.started) if self._has_echo else ""
        asked = answer.started.prompt_logprobs or ()
        choice = self._choice(
            index,
            echoed if self._is_silent else echoed + answer.text,
            asked if self._has_echo else (),
            () if self._is_silent else answer.logprobs,
            _to_text_reason(answer.finished),
        )
        if not self._has_prompt:
            return choice
        return msgspec.structs.replace(choice, prompt_logprobs=to_prompt_logprobs(asked))

    def _choice(
        self,
        index: int,
        text: str,
        prompt: tuple[TokenLogprob, ...],
        tokens: tuple[TokenLogprob, ...],
        reason: TextReason | None,
    ) -> TextChoice:
        has_tokens = self._has_logprobs and (prompt or tokens or reason is None)
        logprobs = to_text_logprobs(prompt, tokens, self._said[index]) if has_tokens else None
        return TextChoice(index=index, text=text, logprobs=logprobs, finish_reason=reason)

    def _prompt(self, index: int, started: Started) -> str:
        """Find the text of an answer's prompt; of one that came as tokens only the engine knows it."""
        prompt = self._prompts[index // self._n] if isinstance(self._prompts[0], str) else None
        return prompt if isinstance(prompt, str) else "".join(token.text for token in started.prompt_logprobs or ())

    def _chunk(self, usage: CompletionUsage | None = None) -> CompletionReply:
        return CompletionReply(
            id=self._id,
            created=self._created,
            model=self._model,
            system_fingerprint=self._fingerprint,
            choices=[],
            usage=usage or UNSET,
        )


def to_fingerprint(card: ModelCard) -> str | None:
    """Say in a few letters which weights and which engine answer."""
    return f"fp_{blake2b(card.fingerprint.encode(), digest_size=5).hexdigest()}" if card.fingerprint else None


def _to_text_reason(finished: Finished) -> TextReason:
    return "stop" if finished.reason is FinishReason.STOP else "length"


def _to_call_piece(event: ToolDelta) -> CallPiece:
    is_first = bool(event.id)
    return CallPiece(
        index=event.index,
        id=event.id or UNSET,
        type="function" if is_first else UNSET,
        function=ReplyFunction(event.arguments, event.name or UNSET),
    )


def _shown(usage: Usage, *, is_silent: bool) -> Usage:
    """Leave out the token that is made where none was asked for."""
    return msgspec.structs.replace(usage, completion_tokens=0) if is_silent else usage
