"""From the engine's events to a `/v1/generate` answer, whole or in frames."""

import time

import msgspec

from gateway.api.native.schema import (
    GenerateBody,
    GenerateReply,
    LastFrame,
    PromptTokensDetails,
    TextFrame,
    Timings,
    UsageBody,
)
from gateway.engine import Answer, Delta, Finished, GenerateEvent, Started, Usage

_encode = msgspec.json.Encoder().encode


class GenerateRendering:
    """Renders one generation; the pieces of a stream joined are the text of the whole answer."""

    def __init__(self, body: GenerateBody, model: str, request_id: str) -> None:
        self._prompt = body.prompt
        self._shown = body.prompt if body.return_full_text and body.prompt is not None else ""
        self._model = model
        self._id = request_id
        self._started = Started(0)
        self._clock = time.perf_counter()

    def to_frame(self, event: GenerateEvent) -> bytes:
        """Encode one event as an SSE frame; what the client need not see is empty."""
        match event:
            case Delta():
                return _frame(TextFrame(event.text)) if event.text else b""
            case Started():
                self.start(event)
                return _frame(TextFrame(self._shown)) if self._shown else b""
            case Finished():
                return _frame(self._last(event))
            case _:
                return b""

    def start(self, started: Started) -> None:
        """Note when the decoding begins."""
        self._started = started
        self._clock = time.perf_counter()

    def to_reply(self, answer: Answer) -> bytes:
        """Encode a whole answer."""
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
