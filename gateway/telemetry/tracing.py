"""Spans with explicit parents: nothing is ever attached, so an aborted stream has nothing to detach.

Without an exporter no span is recorded, but the caller's trace still goes through to the engine and into the logs.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from threading import Thread

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    NoOpTracer,
    ProxyTracerProvider,
    Span,
    SpanContext,
    SpanKind,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
    get_tracer_provider,
    set_span_in_context,
    set_tracer_provider,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from gateway import __version__
from gateway.config import SPAN_QUEUE, TelemetrySettings
from gateway.telemetry.semconv import SCHEMA_URL

Attributes = dict[str, AttributeValue]

_EXPORT_SECONDS = 2
_STOP_SECONDS = 1.5
_ROOT = Context()
_W3C = TraceContextTextMapPropagator()
_TRACES_PATH = "/v1/traces"


class Tracing:
    """Starts spans and sees that they are sent, or counted as dropped; `is_on` where there is an exporter."""

    def __init__(self, exporter: SpanExporter | None, resource: Resource) -> None:
        self.is_on = exporter is not None
        self._spans: _Spans | None = None
        self._tracer: Tracer = NoOpTracer()
        if exporter is not None:
            self._exporter = exporter
            self._spans = _Spans(exporter)
            self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            self._provider.add_span_processor(self._spans)
            self._tracer = self._provider.get_tracer("gateway", __version__, SCHEMA_URL)

    def lend(self) -> None:
        """Have libraries of this process, as an engine's client, record their spans here; a later one is not heard."""
        if self._spans is not None and isinstance(get_tracer_provider(), ProxyTracerProvider):
            set_tracer_provider(self._provider)

    @property
    def dropped(self) -> int:
        """The number of ended spans that will never arrive."""
        return self._spans.dropped if self._spans is not None else 0

    def serve(self, name: str, parent: Context) -> Span:
        """Start the span of an HTTP request under the caller's trace."""
        if not self.is_on:  # what the SDK's tracer that records nothing finds by a longer way
            return get_current_span(parent)
        return self._tracer.start_span(name, parent, SpanKind.SERVER)

    def begin(self, name: str, parent: Span, start_ns: int) -> Span:
        """Start a span of our own work under `parent`."""
        if not self.is_on:
            return parent
        return self._tracer.start_span(name, set_span_in_context(parent, _ROOT), start_time=start_ns)

    def write(self, parent: Span, phases: Iterable[tuple[str, int, int]]) -> int:
        """Write spans of work that is over, by name, start and end, and return the end of the last; times are in ns.

        Each is a nanosecond long at least, and begins after the one before it: Jaeger warns of a span without length.
        """
        last = 0
        for name, start, end in phases:
            begun = max(start, last)
            last = max(end, begun + 1)
            self.begin(name, parent, begun).end(last)
        return last

    async def stop(self) -> None:
        """Send what waits, for at most 1.5 s; a collector that is away delays no stop."""
        if self._spans is None:
            return
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        Thread(target=self._shut, args=(loop, stopped), name="trace-stop", daemon=True).start()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await stopped.wait()
        except TimeoutError:
            self._exporter.shutdown()  # ends the retries that the thread waits for

    def _shut(self, loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
        self._provider.shutdown()
        with contextlib.suppress(RuntimeError):  # the loop may be gone by then
            loop.call_soon_threadsafe(stopped.set)


class _CountedExporter(SpanExporter):
    """Counts what the exporter took and what it could not deliver."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.taken = 0
        self.failed = 0
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class _Spans(BatchSpanProcessor):
    """The SDK's batches, but a full queue counts what it refuses; each number is written by one thread only."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._counted = _CountedExporter(exporter)
        self._queued = 0
        self._refused = 0
        super().__init__(self._counted, max_queue_size=SPAN_QUEUE)

    @property
    def dropped(self) -> int:
        return self._refused + self._counted.failed

    def on_end(self, span: ReadableSpan) -> None:
        if self._queued - self._counted.taken >= SPAN_QUEUE:
            self._refused += 1
            return
        self._queued += 1
        super().on_end(span)


def otlp_exporter(settings: TelemetrySettings) -> SpanExporter | None:
    """Make the exporter of the configured endpoint, if there is one; headers and certificates come from `OTEL_…`."""
    endpoint = settings.otlp_traces_endpoint or settings.otlp_endpoint
    if not endpoint:
        return None
    if settings.otlp_protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc  # noqa: PLC0415 - heavy

        return Grpc(endpoint=endpoint, timeout=_EXPORT_SECONDS)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http  # noqa: PLC0415 - heavy

    from gateway.telemetry.collector import bounded_session  # noqa: PLC0415 - heavy

    exact = settings.otlp_traces_endpoint or endpoint.rstrip("/").removesuffix(_TRACES_PATH) + _TRACES_PATH
    return Http(endpoint=exact, timeout=_EXPORT_SECONDS, session=bounded_session())


def resource(settings: TelemetrySettings) -> Resource:
    """Describe the sender: `OTEL_RESOURCE_ATTRIBUTES`, then a service name that was configured."""
    ours: Attributes = {"service.version": __version__}
    found = Resource.create(ours)
    named = str(found.attributes["service.name"])
    if settings.service_name != TelemetrySettings().service_name or named.startswith("unknown_service"):
        found = found.merge(Resource({"service.name": settings.service_name}))
    return found


def remote_parent(headers: Iterable[tuple[bytes, bytes]]) -> Context:
    """Read the caller's W3C trace context; more than one `traceparent`, or a broken one, is none."""
    parents = [value for name, value in headers if name == b"traceparent"]
    if len(parents) != 1:
        return _ROOT
    states = b",".join([value for name, value in headers if name == b"tracestate"])
    carrier = {"traceparent": parents[0].decode("latin-1"), "tracestate": states.decode("latin-1")}
    return _W3C.extract(carrier, _ROOT)


def sampled(span: Span) -> SpanContext | None:
    """Return the context of a span that is to be sent; `None` for any other."""
    context = span.get_span_context()
    return context if context.trace_flags.sampled and span.is_recording() else None


def span_context(parent: str) -> SpanContext | None:
    """Read a W3C `traceparent`; `None` for what is none."""
    context = get_current_span(_W3C.extract({"traceparent": parent}, _ROOT)).get_span_context()
    return context if context.is_valid else None


def traceparent(span: Span) -> str | None:
    """Write the span as a W3C `traceparent`; `None` when there is no trace."""
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{context.trace_flags:02x}"
