"""Every rule of a generation, in order, on one page."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec import structs

from gateway.config import Config
from gateway.deadline import Deadline
from gateway.engine import (
    DeadlineExceeded,
    Delta,
    Finished,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    ModelCard,
    Started,
    ToolDelta,
    Usage,
    negotiate,
)
from gateway.hosting import Hosting
from gateway.telemetry import Telemetry


class Inference:
    """What the dialects call: finds the engine, holds it, watches the clock and tells telemetry."""

    def __init__(self, hosting: Hosting, telemetry: Telemetry, config: Config) -> None:
        self._hosting = hosting
        self._telemetry = telemetry
        self.config = config

    def card(self, model: str | None) -> ModelCard:
        """Find the card of `model`, or of the default one; raise `UnknownModel` or `Unavailable`."""
        return self._hosting.find(model)[1]

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Yield the events of one generation; an `EngineError` before `Started` is an HTTP status.

        Time that runs out after `Started` is an end like any other: what was said stands, the reason is `deadline`.
        """
        seat, card = self._hosting.find(request.model)
        negotiate(request, card)
        tally = Tally()
        with self._telemetry.generation(request, card, seat.plugin) as watch:
            async with (
                Deadline(
                    self.config.server.request_seconds if request.timeout is None else request.timeout
                ) as deadline,
                self._hosting.lease(seat, deadline) as engine,
                aclosing(engine.generate(structs.replace(request, model=card.name, trace=watch.traceparent))) as events,
            ):
                try:
                    while (event := await deadline.next(events)) is not None:
                        tally.add(event)
                        watch.see(event)
                        yield event
                except DeadlineExceeded:
                    if not tally.started:
                        raise
                    last = Finished(FinishReason.DEADLINE, tally.usage)
                    watch.see(last)
                    yield last


class Tally:
    """Counts a stream's tokens as they pass, for an end that the engine does not get to write."""

    def __init__(self) -> None:
        self.started: Started | None = None
        self._tokens = 0

    def add(self, event: GenerateEvent) -> None:
        """Take the next event."""
        if isinstance(event, Delta | ToolDelta):
            self._tokens += event.tokens
        elif isinstance(event, Started):
            self.started = event

    @property
    def usage(self) -> Usage:
        """What was used up to now."""
        started = self.started or Started(0)
        return Usage(started.prompt_tokens, self._tokens, started.cached_tokens)
