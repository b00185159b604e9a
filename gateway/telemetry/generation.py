"""The telemetry of one generation: its span with three phases, its metrics, its part of the request's record."""

import asyncio
from time import perf_counter, time_ns
from typing import Self

from opentelemetry.trace import Span, Status, StatusCode

from gateway.engine import (
    Chat,
    Delta,
    EngineError,
    Finished,
    GenerateEvent,
    GenerateRequest,
    InvalidRequest,
    ModelCard,
    Overloaded,
    Started,
    ToolDelta,
    UnknownModel,
    Usage,
)
from gateway.telemetry import semconv
from gateway.telemetry.context import afterwards, current_record
from gateway.telemetry.fault_domains import domain_of
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Attributes, Tracing, sampled, span_context, traceparent

# A tuple, for `Delta | ToolDelta` would be put together again for every event.
_WRITTEN = (Delta, ToolDelta)


class GenerationTelemetry:
    """Watches one generation from request to end: enter it, show it each event, leave it however the generation ends.

    The span is never attached and its phases are written when it ends, so an abort at any point leaves nothing open.
    """

    def __init__(
        self, tracing: Tracing, metrics: Metrics, request: GenerateRequest, card: ModelCard, engine: str
    ) -> None:
        self._tracing, self._metrics = tracing, metrics
        self._request = request
        self._model = card.name
        self._engine = engine
        self._operation = "chat" if isinstance(request.prompt, Chat) else "text_completion"
        self._record = current_record()
        self.started: Started | None = None
        self.cache = ""
        self._made: Usage | None = None
        self._charged = Usage(0, 0)
        self._finished: Finished | None = None
        self._error: BaseException | None = None
        self._tokens = 0
        self._queued_at = self._placed_at = self._started_at = self._first_at = self._ended_at = 0.0

    @property
    def traceparent(self) -> str | None:
        """The W3C `traceparent` to hand to the engine; `None` when there is no trace."""
        return traceparent(self._span)

    @property
    def prompt_tokens(self) -> int | None:
        """The tokens of the prompt, which some engines know at the end only."""
        if self._finished is not None:
            return self._finished.usage.prompt_tokens
        return None if self.started is None else self.started.prompt_tokens

    @property
    def usage(self) -> Usage:
        """The tokens used up to now, as far as they are known: for an end that the engine does not get to write."""
        if self._finished is not None:
            return self._finished.usage
        return Usage(self.prompt_tokens or 0, self._tokens, self.started.cached_tokens if self.started else 0)

    def __enter__(self) -> Self:
        self._record.model = self._model
        self._metrics.active_requests.add(1, self._model)
        self._begun_ns, self._begun_at = time_ns(), perf_counter()
        self._span = self._tracing.begin(f"{self._operation} {self._model}", self._record.span, self._begun_ns)
        self._trace = sampled(self._span) if self._tracing.is_on else None
        return self

    def wait(self) -> None:
        """Take note that it joins the queue."""
        self._record.is_waiting = True
        self._queued_at, self._placed_at = perf_counter(), 0.0

    def place(self, seconds: float) -> None:
        """Take note that it has its place, after so many seconds in the queue."""
        self._record.is_waiting = False
        self._placed_at = perf_counter()
        afterwards(lambda: self._metrics.queue_wait.record(seconds, self._model, trace=self._trace))

    def move(self, card: ModelCard, engine: str, reason: str) -> None:
        """Take note that another engine of the route takes over; `reason` is the code of the error of the last one."""
        self._metrics.fallbacks.add(1, self._model, reason)
        self._metrics.active_requests.add(-1, self._model)
        models: Attributes = {semconv.REQUEST_MODEL: self._model, semconv.RESPONSE_MODEL: card.name}
        self._span.add_event("fallback", models | {"reason": reason})
        self._span.update_name(f"{self._operation} {card.name}")
        self._model, self._engine, self._record.model = card.name, engine, card.name
        self._metrics.active_requests.add(1, self._model)

    def note_try(self, engine: str, reason: str, seconds: float) -> None:
        """Take note that an engine of a route began an answer after so long, or of the code of its error: `reason`."""
        self._metrics.try_duration.record(seconds, engine, reason, trace=self._trace)
        self._span.add_event("try", {semconv.ENGINE: engine, "reason": reason, "seconds": seconds})

    def see(self, event: GenerateEvent) -> None:
        """Take note of the next event."""
        if isinstance(event, _WRITTEN):
            if event.tokens:
                self._tokens += event.tokens
                if not self.cache:
                    self._metrics.tokens_generated.add(event.tokens, self._model)
                if not self._first_at:
                    self._first_at = perf_counter()
        elif isinstance(event, Started):
            self.started = event
            self._started_at = perf_counter()
        else:
            self._finished = event
            self._ended_at = perf_counter()

    def make(self, event: GenerateEvent) -> None:
        """Take note of the next event of an answer that several requests read, as it is made."""
        if isinstance(event, _WRITTEN) and event.tokens:
            self._metrics.tokens_generated.add(event.tokens, self._model)

    def charge(self, made: Usage, charged: Usage) -> None:
        """Take note that this request pays for what was made, and of the tokens that its key was charged for that.

        The two differ in a prompt that another answer to it was charged with.
        """
        self._made, self._charged = made, charged

    def link(self, maker: str | None) -> None:
        """Take note that another request makes, or made, the answer: its generation has this `traceparent`, if any."""
        if maker is not None and (context := span_context(maker)) is not None:
            self._span.add_link(context)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._metrics.active_requests.add(-1, self._model)
        self._error = error
        self._ended_at = self._ended_at or perf_counter()
        code = _code_of(error, is_whole=self._finished is not None)
        self._fill_record(code)
        afterwards(lambda: self._write(code))

    def _write(self, code: str) -> None:
        self._measure(code)
        if self._span.is_recording():
            self._describe(self._span, code)
            self._span.end(max(self._at(self._ended_at), self._write_phases()))
        self._error = None  # its traceback leads back here, and to all that the request holds

    @property
    def _left(self) -> str:
        """The code of a client that left before the end; empty where the answer has one."""
        return "" if self._finished is not None else "client_closed_request"

    def _fill_record(self, code: str) -> None:
        record = self._record
        record.code = record.code or code
        record.tokens += self.usage.completion_tokens
        record.prompt_tokens += self.usage.prompt_tokens
        record.finish_reason = self._finished.reason if self._finished is not None else ""
        if self.started is not None:
            record.queue = self.started.queue_seconds
        if self._first_at and record.ttft is None:
            record.ttft = self._first_at - self._begun_at

    def _measure(self, code: str) -> None:
        metrics, model, trace = self._metrics, self._model, self._trace
        labels = (self._operation, self._engine, model)
        if isinstance(self._error, Overloaded) and self.started is None:
            metrics.shed.add(1, code)
        metrics.server_duration.record(self._ended_at - self._begun_at, *labels, code or self._left, trace=trace)
        if self._made is not None:
            metrics.prompt_tokens.add(self._made.prompt_tokens, model)
            metrics.cached_tokens.add(self._made.cached_tokens, model)
            if self._record.key:
                metrics.add_key_tokens(self._record.key, self._charged.prompt_tokens, self._charged.completion_tokens)
        if self.started is not None:
            metrics.generation_duration.record(self._ended_at - self._begun_at, model, trace=trace)
            reason = self._finished.reason.value if self._finished is not None else code or self._left
            metrics.answers.measure(model, reason, self.usage, self._request.sampling.max_tokens, trace)
            if self._placed_at:
                begun = min(self._placed_at + self.started.queue_seconds, self._started_at)
                metrics.answers.time(model, self._started_at - begun, self._ended_at - self._started_at, trace)
        if self._first_at:
            metrics.first_token.record(self._first_at - self._begun_at, *labels, trace=trace)
        if self._finished is not None and self._tokens > 1:
            metrics.output_token.record((self._ended_at - self._first_at) / (self._tokens - 1), *labels, trace=trace)

    def _describe(self, span: Span, code: str) -> None:
        span.set_attributes(_asked(self._request) | self._answered())
        if failure := code or self._left:
            span.set_attribute(semconv.ERROR_TYPE, failure)
            span.set_attribute(semconv.FAULT_DOMAIN, domain_of(failure))
        if code and not isinstance(self._error, InvalidRequest | UnknownModel):
            # The message of an error that is not ours may hold anything, a prompt too.
            message = self._error.message if isinstance(self._error, EngineError) else None
            span.set_status(Status(StatusCode.ERROR, message))

    def _answered(self) -> Attributes:
        attributes: Attributes = {semconv.OPERATION: self._operation, semconv.PROVIDER: self._engine}
        attributes |= {semconv.RESPONSE_ID: self._request.id, semconv.RESPONSE_MODEL: self._model}
        attributes[semconv.OUTPUT_TOKENS] = self.usage.completion_tokens
        if self.cache:
            attributes[semconv.CACHE] = self.cache
        if self.prompt_tokens is not None:
            attributes[semconv.INPUT_TOKENS] = self.prompt_tokens
            attributes[semconv.CACHED_TOKENS] = self.usage.cached_tokens
        if self._finished is not None:
            attributes[semconv.FINISH_REASONS] = (self._finished.reason.value,)
        return attributes

    def _write_phases(self) -> int:
        """Write the phases as child spans, and return their end."""
        if self.started is not None:
            phases = _phases(self.started, self._begun_at, self._started_at, self._ended_at)
        else:
            phases = [("queue", self._queued_at, self._placed_at or self._ended_at)] if self._queued_at else []
        return self._tracing.write(self._span, [(name, self._at(start), self._at(end)) for name, start, end in phases])

    def _at(self, moment: float) -> int:
        """Turn a moment into wall time, in nanoseconds, as the clock stood when the generation began."""
        return self._begun_ns + int((moment - self._begun_at) * 1e9)


def _code_of(error: BaseException | None, *, is_whole: bool) -> str:
    """Name what went wrong; empty for a whole answer, and for a client that left."""
    match error:
        case None:
            return "" if is_whole else EngineError.code
        case EngineError(code=code):
            return code
        case GeneratorExit() | asyncio.CancelledError():
            return ""
        case _:
            return "internal_error"


def _phases(started: Started, begun: float, at: float, ended: float) -> list[tuple[str, float, float]]:
    """Work out the phases with their times, backwards from `Started`, which came `at` the end of the prefill."""
    prefill = max(at - started.prefill_seconds, begun)
    queue = max(prefill - started.queue_seconds, begun)
    return [("queue", queue, prefill), ("prefill", prefill, at), ("decode", at, ended)]


def _asked(request: GenerateRequest) -> Attributes:
    """Describe what was asked for, as far as it was."""
    values = [(name, getattr(request.sampling, field)) for field, name in semconv.REQUEST_PARAMETERS]
    return {semconv.REQUEST_MODEL: request.model} | {name: value for name, value in values if value is not None}
