"""From the engine's events to a `/v1/generate` answer, whole or in frames."""

import time
from collections.abc import Mapping

import msgspec
from msgspec import UNSET

from gateway.api.exchange.constraint import structured_of
from gateway.api.exchange.dialect import Rendering
from gateway.api.native.schema import (
    GenerateBody,
    GenerateReply,
    LastFrame,
    PromptTokensDetails,
    TextFrame,
    Timings,
    UsageBody,
)
from gateway.engine import Answer, Delta, Finished, GenerateEvent, ModelCard, Started, Usage

_encode = msgspec.json.Encoder().encode


class GenerateRendering(Rendering):
    """Renders one generation; the pieces of a stream joined are the text of the whole answer."""

    def __init__(self, body: GenerateBody, card: ModelCard, request_id: str) -> None:
        self._prompt = body.prompt
        self._shown = body.prompt if body.return_full_text and body.prompt is not None else ""
        self._model = card.name
        self._id = request_id
        self._started = Started(0)
        self._clock = time.perf_counter()

    def to_piece(self, index: int, event: GenerateEvent) -> bytes:
        """Encode one event as an SSE frame; an event that the client need not see is empty."""
        del index
        match event:
            case Delta():
                return _frame(TextFrame(event.text)) if event.text else b""
            case Started():
                self.note(event)
                return _frame(TextFrame(self._shown)) if self._shown else b""
            case Finished():
                return _frame(self._last(event))
            case _:
                return b""

    def note(self, event: GenerateEvent) -> None:
        """Note when the decoding begins."""
        if type(event) is Started:
            self._started = event
            self._model = event.model or self._model
            self._clock = time.perf_counter()

    def to_reply(self, answers: Mapping[int, Answer], usage: Usage) -> bytes:
        """Encode the whole answer."""
        del usage
        answer = answers[0]
        return _encode(
            GenerateReply(
                generated_text=self._shown + answer.text,
                prompt=self._prompt,
                model=self._model,
                id=self._id,
                finish_reason=answer.finished.reason,
                stop=answer.finished.stop,
                usage=to_usage(answer.finished.usage),
                timings=self._timings(),
            )
        )

    def _last(self, finished: Finished) -> LastFrame:
        return LastFrame(
            finish_reason=finished.reason,
            stop=finished.stop,
            model=self._model,
            id=self._id,
            usage=to_usage(finished.usage),
            timings=self._timings(),
            x_structured=structured_of(finished) if self.is_structured else UNSET,
        )

    def _timings(self) -> Timings:
        decode = time.perf_counter() - self._clock
        seconds = (self._started.queue_seconds, self._started.prefill_seconds, decode)
        return Timings(*(round(value, 6) for value in seconds))


def to_usage(usage: Usage) -> UsageBody:
    """Say usage with the keys that every OpenAI-like answer has."""
    total = usage.prompt_tokens + usage.completion_tokens
    return UsageBody(usage.prompt_tokens, usage.completion_tokens, total, PromptTokensDetails(usage.cached_tokens))


def _frame(body: TextFrame | LastFrame) -> bytes:
    return b"data: " + _encode(body) + b"\n\n"
