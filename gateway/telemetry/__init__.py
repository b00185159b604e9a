"""Observability: traces, metrics and logs of one process, started where requests are served."""

import asyncio
from collections.abc import Mapping
from typing import Self

from litestar.types import ASGIApp
from opentelemetry.sdk.trace.export import SpanExporter

from gateway.config import TelemetrySettings
from gateway.engine import GenerateRequest, ModelCard
from gateway.telemetry import logs
from gateway.telemetry.context import Outcome, RequestRecord, current_record, open_record, request_id
from gateway.telemetry.generation import GenerationTelemetry
from gateway.telemetry.logs import STDOUT
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.middleware import ROUTINE, TelemetryMiddleware
from gateway.telemetry.tracing import Tracing, otlp_exporter, resource

__all__ = [
    "ROUTINE",
    "STDOUT",
    "GenerationTelemetry",
    "Metrics",
    "Outcome",
    "RequestRecord",
    "Telemetry",
    "TelemetryMiddleware",
    "current_record",
    "open_record",
    "request_id",
]


class Telemetry:
    """Everything that watches; one for a process, made in the process that serves, for its threads are its own."""

    def __init__(self, settings: TelemetrySettings, log: logs.LogSink, exporter: SpanExporter | None) -> None:
        sender = resource(settings)
        self._log = log
        self.tracing = Tracing(exporter, sender)
        self.metrics = Metrics(sender, self._dropped)

    @classmethod
    def start(cls, settings: TelemetrySettings, fd: int = STDOUT) -> Self:
        """Set up logs, which go to `fd`, metrics and, where an endpoint is configured, the sending of traces."""
        telemetry = cls(settings, logs.configure(settings, fd), otlp_exporter(settings))
        telemetry.tracing.lend()
        return telemetry

    async def stop(self) -> None:
        """Send and write what waits, within two seconds."""
        await self.tracing.stop()
        await asyncio.to_thread(self._log.close, 0.4)

    def middleware(self, app: ASGIApp) -> TelemetryMiddleware:
        """Wrap the app, so that each HTTP request is seen."""
        return TelemetryMiddleware(app, self.tracing, self.metrics, self._log)

    def generation(self, request: GenerateRequest, card: ModelCard, engine: str) -> GenerationTelemetry:
        """Watch a generation; enter it before the engine is asked."""
        return GenerationTelemetry(self.tracing, self.metrics, request, card, engine)

    def _dropped(self) -> Mapping[str, int]:
        return {"logs": self._log.dropped, "spans": self.tracing.dropped}
