import asyncio
import socket
import time
from time import time_ns

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import INVALID_SPAN, SpanContext, get_current_span

from gateway.config import TelemetrySettings
from gateway.telemetry.tracing import Tracing, otlp_exporter, remote_parent, resource, span_context, traceparent
from tests.support.otlp import otlp_receiver

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def context_of(*headers) -> SpanContext:
    return get_current_span(remote_parent(headers)).get_span_context()


def test_the_callers_trace_context_is_read():
    context = context_of((b"host", b"x"), (b"traceparent", PARENT), (b"tracestate", b"a=1"), (b"tracestate", b"b=2"))
    assert f"{context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{context.span_id:016x}" == "b7ad6b7169203331"
    assert (context.is_remote, context.trace_flags.sampled) == (True, True)
    assert dict(context.trace_state) == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"traceparent", PARENT), (b"traceparent", PARENT)),
        ((b"traceparent", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01"),),
        ((b"traceparent", b"\xff\x00" * 40),),
        ((b"traceparent", b"ff" + PARENT[2:]),),
        ((b"tracestate", b"a=1"),),
    ],
)
def test_a_broken_trace_context_is_none(headers):
    assert not context_of(*headers).is_valid


def test_a_span_is_written_as_traceparent():
    span = get_current_span(remote_parent([(b"traceparent", PARENT)]))
    assert traceparent(span) == PARENT.decode()
    assert traceparent(INVALID_SPAN) is None


async def test_without_an_endpoint_nothing_is_recorded_but_the_callers_trace_goes_on():
    assert otlp_exporter(TelemetrySettings()) is None
    tracing = Tracing(None, Resource.get_empty())
    serving = tracing.serve("GET", remote_parent([(b"traceparent", PARENT)]))
    work = tracing.begin("work", serving, time_ns())
    assert not work.is_recording()
    assert traceparent(work) == PARENT.decode()
    assert traceparent(tracing.serve("GET", remote_parent([]))) is None
    await tracing.stop()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_spans_arrive_over_both_protocols_with_resource_and_headers(protocol, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    with otlp_receiver() as receiver:
        endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
        settings = TelemetrySettings(otlp_endpoint=endpoint, otlp_protocol=protocol, service_name="mine")
        tracing = Tracing(otlp_exporter(settings), resource(settings))
        serving = tracing.serve("GET", remote_parent([(b"traceparent", PARENT)]))
        tracing.begin("work", serving, time_ns()).end()
        serving.end()
        await tracing.stop()
        receiver.wait_for(2)
    (root,) = receiver.roots()
    assert root.outline() == "GET\n  work"
    assert root.span.parent_span_id.hex() == "b7ad6b7169203331"
    assert receiver.resources[0]["service.name"] == "mine"
    assert receiver.resources[0]["deployment.environment.name"] == "test"
    assert receiver.headers[0]["x-team"] == "blue"
    assert tracing.dropped == 0


@pytest.mark.parametrize("suffix", ["", "/", "/v1/traces"])
def test_an_http_endpoint_is_a_base_or_the_whole_address(suffix):
    exporter = otlp_exporter(TelemetrySettings(otlp_endpoint=f"http://127.0.0.1:4318/otlp{suffix}"))
    assert exporter._endpoint == "http://127.0.0.1:4318/otlp/v1/traces"
    exporter.shutdown()


def test_the_endpoint_for_traces_is_taken_as_it_is_and_first():
    exact = "http://127.0.0.1:4318/in"
    exporter = otlp_exporter(TelemetrySettings(otlp_endpoint="http://127.0.0.1:1", otlp_traces_endpoint=exact))
    assert exporter._endpoint == exact
    exporter.shutdown()


@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        ("llm-gateway", "", "llm-gateway"),
        ("llm-gateway", "service.name=theirs", "theirs"),
        ("mine", "service.name=theirs", "mine"),
    ],
)
def test_a_configured_service_name_wins_over_the_resource_attributes(monkeypatch, name, attributes, expected):
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", attributes)
    assert resource(TelemetrySettings(service_name=name)).attributes["service.name"] == expected


@pytest.mark.parametrize("variable", ["OTEL_SDK_DISABLED=true", "OTEL_TRACES_SAMPLER=always_off"])
async def test_the_sdks_own_variables_hold(monkeypatch, variable):
    monkeypatch.setenv(*variable.split("="))
    tracing = Tracing(_Sink(), Resource.get_empty())
    assert not tracing.serve("GET", remote_parent([])).is_recording()
    await tracing.stop()


@pytest.fixture
def blackhole():
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def refused():
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]  # bound but not listening, so that nobody else gets it


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("collector", ["blackhole", "refused"])
async def test_a_dead_collector_costs_spans_nothing_and_the_stop_is_short(
    protocol, collector, request, standard_logging
):
    port = request.getfixturevalue(collector)
    settings = TelemetrySettings(otlp_endpoint=f"http://127.0.0.1:{port}", otlp_protocol=protocol)
    tracing = Tracing(otlp_exporter(settings), Resource.get_empty())
    begun = time.monotonic()
    for _ in range(3000):
        tracing.serve("GET", remote_parent([])).end()
    assert time.monotonic() - begun < 4  # 3000 spans take 0.05 s
    assert tracing.dropped >= 3000 - 2048 - 512  # the queue, and a batch on its way
    begun = time.monotonic()
    await tracing.stop()
    assert time.monotonic() - begun < 4


class _Sink(SpanExporter):
    def __init__(self, result=SpanExportResult.SUCCESS):
        self.result = result

    def export(self, spans):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.mark.parametrize(
    ("result", "dropped"), [(SpanExportResult.SUCCESS, 0), (SpanExportResult.FAILURE, 10), (OSError("away"), 10)]
)
async def test_spans_that_do_not_arrive_are_counted(result, dropped, log):
    log.configure()  # the SDK reports what an exporter raises
    tracing = Tracing(_Sink(result), Resource.get_empty())
    for _ in range(10):
        tracing.serve("GET", remote_parent([])).end()
    await tracing.stop()
    assert tracing.dropped == dropped


async def test_stopping_lets_other_tasks_run():
    tracing = Tracing(_Slow(), Resource.get_empty())
    tracing.serve("GET", remote_parent([])).end()
    ticked = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(tracing.stop())
        asyncio.get_running_loop().call_later(0.01, ticked.set)
        await ticked.wait()
        assert not stopping.done()


class _Slow(SpanExporter):
    def export(self, spans):
        time.sleep(0.5)
        return SpanExportResult.SUCCESS


def test_a_traceparent_is_read_as_the_span_that_it_names():
    assert span_context(PARENT.decode()) == context_of((b"traceparent", PARENT))
    assert span_context("00-nonsense") is None


def test_phases_follow_each_other_and_none_is_without_length(watched):
    tracing = watched.telemetry.tracing
    parent = tracing.serve("POST", remote_parent([]))
    phases = [("queue", 100, 100), ("prefill", 100, 100), ("decode", 100, 500)]
    assert tracing.write(parent, phases) == 500
    assert tracing.write(parent, []) == 0
    spans = watched.spans()
    found = [(spans[name].start_time, spans[name].end_time) for name, _, _ in phases]
    assert found == [(100, 101), (101, 102), (102, 500)]
    assert {span.parent.span_id for span in spans.values()} == {parent.get_span_context().span_id}
