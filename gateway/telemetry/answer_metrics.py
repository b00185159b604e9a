"""Measures each answer when it has ended: how it did, in which phases, of how many tokens."""

from collections.abc import Callable

from opentelemetry.trace import SpanContext

from gateway.engine import Usage
from gateway.telemetry import semconv
from gateway.telemetry.instruments import Distribution, Tally


class AnswerMetrics:
    """The instruments of answers; `counter` and `distribution` make an instrument and have it shown."""

    def __init__(self, counter: Callable[..., Tally], distribution: Callable[..., Distribution]) -> None:
        self.generations = counter(
            "generations",
            "Answers that began, by how they ended: a finish reason, or the code of an error.",
            "model",
            "reason",
        )
        self.phase_duration = distribution(
            "llm_gateway.phase.duration",
            "Time of an answer from its place in a batch to its first token (prefill), and on to its end (decode).",
            semconv.REQUEST_BUCKETS,
            ("model", "phase"),
        )
        self.work_duration = distribution(
            "llm_gateway.work.duration",
            "Time of an answer from its place in a batch to its end: both phases.",
            semconv.REQUEST_BUCKETS,
            ("model",),
        )
        self.generation_tokens = distribution(
            "llm_gateway.generation.tokens",
            "Tokens of each prompt (input), of each answer (output), and what it was asked for at most (limit).",
            semconv.SIZE_BUCKETS,
            ("model", "type"),
            unit="{token}",
        )
        self.answers_asked = distribution(
            "llm_gateway.answers.asked",
            "Answers that a request asks for to one prompt: its n.",
            semconv.COUNT_BUCKETS,
            ("model",),
            unit="{answer}",
        )

    def measure(self, model: str, reason: str, usage: Usage, limit: int | None, trace: SpanContext | None) -> None:
        """Measure an answer that ended for a `reason`; `limit` is what it was asked for at most, in tokens."""
        self.generations.add(1, model, reason)
        self.generation_tokens.record(usage.prompt_tokens, model, "input", trace=trace)
        self.generation_tokens.record(usage.completion_tokens, model, "output", trace=trace)
        if limit is not None:
            self.generation_tokens.record(limit, model, "limit", trace=trace)

    def time(self, model: str, prefill: float, decode: float, trace: SpanContext | None) -> None:
        """Measure the phases of an answer that had a place in a batch, in seconds."""
        self.phase_duration.record(prefill, model, "prefill", trace=trace)
        self.phase_duration.record(decode, model, "decode", trace=trace)
        self.work_duration.record(prefill + decode, model, trace=trace)
