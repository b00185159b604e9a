"""Every rule of a generation, in order, on one page."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec import structs

from gateway.config import Config
from gateway.deadline import Deadline
from gateway.engine import (
    DeadlineExceeded,
    Finished,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    ModelCard,
    negotiate,
)
from gateway.hosting import Hosting
from gateway.telemetry import Telemetry, current_record


class Inference:
    """What the dialects call: finds the engine, holds it, watches the clock and tells telemetry."""

    def __init__(self, hosting: Hosting, telemetry: Telemetry, config: Config) -> None:
        self._hosting = hosting
        self._telemetry = telemetry
        self.config = config

    def card(self, model: str | None) -> ModelCard:
        """Find the card of `model`, or of the default one; raise `UnknownModel` or `Unavailable`."""
        current_record().model = self._hosting.name_of(model)
        return self._hosting.find(model)[1]

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Yield the events of one generation; an `EngineError` before `Started` is an HTTP status.

        Time that runs out after `Started` is an end like any other: what was said stands, the reason is `deadline`.
        """
        seat, card = self._hosting.find(request.model)
        negotiate(request, card)
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
                        watch.see(event)
                        yield event
                except DeadlineExceeded:
                    if watch.started is None:
                        raise
                    last = Finished(FinishReason.DEADLINE, watch.usage)
                    watch.see(last)
                    yield last
