"""The span of a request to the server, read from an exporter in memory."""

import asyncio
from contextlib import aclosing

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from gateway.engine import Chat, Finished, FinishReason, GenerateRequest, Message, Text, UpstreamFailed
from gateway_openai.chunks import FrameUsage
from gateway_openai.span import ClientTracing
from tests.support.scripted_upstream import GOOD, Script, behind

TRACE, SPAN = "1" * 32, "2" * 16
REQUEST = GenerateRequest(
    id="1", model="m", prompt=Chat((Message("user", (Text("hi"),)),)), trace=f"00-{TRACE}-{SPAN}-01"
)


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    yield made
    made.shutdown()


def test_a_span_has_what_the_conventions_ask_for(exporter, provider):
    span = ClientTracing("https://api.example.com/v1", provider).begin(REQUEST)
    span.answered(200, 1)
    span.end(FinishReason.STOP, FrameUsage(3, 4))
    (ended,) = exporter.get_finished_spans()
    assert (ended.name, ended.kind) == ("chat m", SpanKind.CLIENT)
    assert format(ended.parent.span_id, "016x") == SPAN
    assert format(ended.context.trace_id, "032x") == TRACE
    assert dict(ended.attributes) == {
        "server.address": "api.example.com",
        "server.port": 443,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.request.resend_count": 1,
        "gen_ai.provider.name": "openai",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 4,
    }


def test_the_server_gets_the_span_as_its_parent(exporter, provider):
    span = ClientTracing("http://127.0.0.1:9", provider).begin(REQUEST)
    span.end(None, None)
    (ended,) = exporter.get_finished_spans()
    assert span.headers == {"traceparent": f"00-{TRACE}-{ended.context.span_id:016x}-01"}
    assert ended.attributes["server.port"] == 9


def test_an_error_is_told_by_its_code_and_a_reader_that_leaves_is_none(exporter, provider):
    tracing = ClientTracing("http://127.0.0.1", provider)
    for error in (UpstreamFailed("no"), GeneratorExit(), asyncio.CancelledError()):
        span = tracing.begin(REQUEST)
        span.fail(error)
        span.end(None, None)
    failed, left, cancelled = exporter.get_finished_spans()
    assert (failed.attributes["error.type"], failed.status.status_code) == ("upstream_unavailable", StatusCode.ERROR)
    assert failed.status.description is None
    assert "error.type" not in {*left.attributes, *cancelled.attributes}


def test_without_a_provider_the_callers_trace_is_handed_on(monkeypatch):
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", None)  # another test of this process may have set one
    span = ClientTracing("http://127.0.0.1").begin(REQUEST)
    assert span.headers == {"traceparent": REQUEST.trace}
    span.end(None, None)


async def test_the_span_ends_before_the_last_event_of_the_answer_as_its_parent_does_then(exporter, provider):
    async with behind(Script(GOOD, still=True)) as engine:
        engine._tracing = ClientTracing("http://127.0.0.1", provider)
        async with aclosing(engine.generate(REQUEST)) as events:
            ended = [len(exporter.get_finished_spans()) async for event in events if isinstance(event, Finished)]
    assert ended == [1]
    (span,) = exporter.get_finished_spans()
    assert span.attributes["gen_ai.response.finish_reasons"] == ("stop",)
