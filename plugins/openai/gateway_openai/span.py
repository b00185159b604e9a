"""The span of a request to the server, by the semantic conventions for HTTP clients and for generative AI.

It is of the kind CLIENT, under the caller's trace, and never attached; the server gets it as the parent of its own.
Without a provider of spans nothing is recorded, and the caller's trace is handed on as it is.
"""

from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from gateway.engine import Chat, EngineError, FinishReason, GenerateRequest
from gateway_openai.chunks import FrameUsage

_W3C = TraceContextTextMapPropagator()
_PORTS = {"http": 80, "https": 443}


class ClientTracing:
    """Begins the spans of requests to one server; its address is in them, and in nothing that a client is told."""

    def __init__(self, url: str, provider: TracerProvider | None = None) -> None:
        parts = urlsplit(url)
        self._is_on = provider is not None or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        self._tracer = trace.get_tracer("gateway_openai", tracer_provider=provider)
        self._attributes: dict[str, AttributeValue] = {
            "gen_ai.provider.name": "openai",
            "http.request.method": "POST",
            "server.address": parts.hostname or "",
            "server.port": parts.port or _PORTS[parts.scheme],
        }

    def begin(self, request: GenerateRequest) -> "ClientSpan":
        """Begin the span of a request, under the trace that it says."""
        operation = "chat" if isinstance(request.prompt, Chat) else "text_completion"
        carrier = {} if request.trace is None else {"traceparent": request.trace}
        if not self._is_on:
            return ClientSpan(trace.INVALID_SPAN, carrier)
        context = _W3C.extract(carrier, Context())
        named = {"gen_ai.operation.name": operation, "gen_ai.request.model": request.model}
        span = self._tracer.start_span(
            f"{operation} {request.model}", context, SpanKind.CLIENT, self._attributes | named
        )
        return ClientSpan(span, carrier)


class ClientSpan:
    """The span of one request; it ends once, however the request does."""

    def __init__(self, span: Span, carrier: dict[str, str]) -> None:
        self._span = span
        self.headers = carrier
        if span.is_recording():
            self.headers = {}
            _W3C.inject(self.headers, trace.set_span_in_context(span, Context()))

    def answered(self, status: int, repeats: int) -> None:
        """Take note of the status, and of how often the request was sent again."""
        self._span.set_attribute("http.response.status_code", status)
        if repeats:
            self._span.set_attribute("http.request.resend_count", repeats)

    def fail(self, error: BaseException) -> None:
        """Take note of how it failed; a generator that was closed, or a reader that was cancelled, is no failure."""
        if isinstance(error, Exception):
            code = error.code if isinstance(error, EngineError) else type(error).__name__
            self._span.set_attribute("error.type", code)
            self._span.set_status(StatusCode.ERROR)

    def end(self, reason: FinishReason | None, usage: FrameUsage | None) -> None:
        """End it, with what is known of the answer."""
        if self._span.is_recording():
            if reason is not None:
                self._span.set_attribute("gen_ai.response.finish_reasons", (reason.value,))
            if usage is not None:
                self._span.set_attribute("gen_ai.usage.input_tokens", usage.prompt_tokens)
                self._span.set_attribute("gen_ai.usage.output_tokens", usage.completion_tokens)
            self._span.end()
