"""What OpenTelemetry's library stumbles over is refused first, and what it takes is taken."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.trace.sampling import _get_from_env_or_default

from gateway.config import SPAN_QUEUE, TelemetrySettings, environment
from gateway.config.standard import misread

SENT = TelemetrySettings(otlp_endpoint="http://127.0.0.1:4318")
BY_GRPC = TelemetrySettings(otlp_endpoint="http://127.0.0.1:4317", otlp_protocol="grpc")
NOT_SENT = TelemetrySettings()
NUMBERS = [
    "",
    "0",
    "1",
    "128",
    " 7 ",
    "+3",
    "2048",
    "2049",
    "100000",
    "-1",
    "-0",
    "1.5",
    "1e3",
    "abc",
    "9" * 400,
    "½",
    "\u0661",
]


def wrong(settings=SENT, **variables):
    return [what.partition(" ")[0] for what in misread(variables, settings)]


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100000"},
        {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "0"},
        {"OTEL_BSP_SCHEDULE_DELAY": "0"},
        {"OTEL_BSP_SCHEDULE_DELAY": "9" * 400},
        {"OTEL_BSP_EXPORT_TIMEOUT": "abc"},
        {"OTEL_ATTRIBUTE_COUNT_LIMIT": "abc"},
        {"OTEL_SPAN_LINK_COUNT_LIMIT": "-1"},
        {"OTEL_TRACES_SAMPLER": "nonsense"},
        {"OTEL_TRACES_SAMPLER_ARG": "1.5"},
        {"OTEL_TRACES_SAMPLER_ARG": "nan"},
        {"OTEL_PROPAGATORS": "tracecontext,nonsense"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "abc"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "0"},
        {"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "inf"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "nonsense"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "a=b,=c"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "a=%0D%0Ab"},
        {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "ä=b"},
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "zip"},
        {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere"},
        {"OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY": "/"},
        {"OTEL_EXPORTER_OTLP_INSECURE": "perhaps"},
        {"OTEL_RESOURCE_ATTRIBUTES": "a=b,c"},
        {"OTEL_RESOURCE_ATTRIBUTES": "=b"},
        {"OTEL_RESOURCE_ATTRIBUTES": "a=\udcff"},
        {"OTEL_METRICS_EXEMPLAR_FILTER": "x"},
        {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "host,x"},
        {"OTEL_PYTHON_CONTEXT": "x"},
        {"OTEL_PYTHON_METER_PROVIDER": "x"},
        {"OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER": "x"},
        {"OTEL_SDK_DISABLED": "maybe"},
    ],
    ids=lambda variables: "=".join(*variables.items())[:60].encode("ascii", "replace").decode(),
)
def test_garbage_is_named(variables):
    (said,) = misread(variables, SENT)
    assert said.startswith(f"{next(iter(variables))} in the environment: ")
    assert said.isprintable()
    assert len(said) < 300


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": str(SPAN_QUEUE)},
        {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"},
        {"OTEL_PROPAGATORS": "tracecontext, baggage,b3"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20YTpi, x-scope = 7,"},
        {"OTEL_EXPORTER_OTLP_CERTIFICATE": __file__},
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_TIMEOUT": "10000"},
        {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,deployment.environment=größe,empty=,url=a=b,"},
        {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "host, os,*"},
        {"OTEL_SDK_DISABLED": "TRUE", "OTEL_METRICS_EXEMPLAR_FILTER": "always_off"},
        {"OTEL_BLRP_MAX_QUEUE_SIZE": "abc", "OTEL_METRIC_EXPORT_INTERVAL": "abc"},  # nothing here reads those
    ],
)
def test_what_the_standard_allows_is_taken(variables):
    assert wrong(**variables) == []
    assert wrong(**dict.fromkeys(variables, "")) == []


def test_a_header_may_be_a_secret_and_is_not_repeated():
    (said,) = misread({"OTEL_EXPORTER_OTLP_HEADERS": "CANARY"}, SENT)
    assert "CANARY" not in said


def test_what_is_for_traces_is_nothing_to_a_service_that_sends_none():
    assert wrong(NOT_SENT, OTEL_TRACES_SAMPLER="xray", OTEL_BSP_SCHEDULE_DELAY="x", OTEL_PROPAGATORS="x") == []
    read_by_all = {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "x", "OTEL_METRICS_EXEMPLAR_FILTER": "x"}
    assert wrong(NOT_SENT, **read_by_all) == list(read_by_all)


def test_each_protocol_has_its_own_words():
    deflate = {"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "deflate"}
    codes = {"OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": "UNAVAILABLE, x"}
    assert (wrong(SENT, **deflate), wrong(SENT, **codes)) == ([], [])
    assert (wrong(BY_GRPC, **deflate), wrong(BY_GRPC, **codes)) == ([*deflate], [*codes])
    assert wrong(BY_GRPC, **dict.fromkeys(codes, "unavailable,ABORTED")) == []


def raises(make):
    try:
        made = make()
    except (ValueError, OverflowError):
        return True
    if isinstance(made, BatchSpanProcessor):
        made.shutdown()
    return False


LIMITS = [
    f"OTEL_{what}_LIMIT" for what in ("ATTRIBUTE_COUNT", "SPAN_ATTRIBUTE_COUNT", "SPAN_EVENT_COUNT", "SPAN_LINK_COUNT")
]


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize(
    ("name", "make"),
    [
        *((name, SpanLimits) for name in LIMITS),
        ("OTEL_BSP_SCHEDULE_DELAY", lambda: BatchSpanProcessor(ConsoleSpanExporter(), SPAN_QUEUE)),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", lambda: BatchSpanProcessor(ConsoleSpanExporter(), SPAN_QUEUE)),
    ],
)
def test_where_the_library_raises_the_variable_is_refused(monkeypatch, name, make, value):
    monkeypatch.setenv(name, value)
    assert not raises(make) or wrong(**{name: value}) == [name]


@pytest.mark.parametrize("name", ["always_on", "traceidratio", "parentbased_always_off", "nonsense", "xray"])
def test_the_samplers_are_the_librarys_own(monkeypatch, caplog, name):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    _get_from_env_or_default()
    assert bool(caplog.records) is bool(wrong(OTEL_TRACES_SAMPLER=name))


@pytest.mark.parametrize("value", ["trace_based", "always_on", "always_off", "x"])
def test_the_exemplar_filters_are_the_librarys_own(monkeypatch, value):
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", value)
    assert raises(lambda: MeterProvider(shutdown_on_exit=False)) is bool(wrong(OTEL_METRICS_EXEMPLAR_FILTER=value))


def test_an_empty_variable_is_none_to_a_child(monkeypatch):
    for name, value in {"OTEL_METRICS_EXEMPLAR_FILTER": "", "OTEL_TRACES_SAMPLER": "always_on", "EMPTY": ""}.items():
        monkeypatch.setenv(name, value)
    copied = environment()
    assert ("OTEL_METRICS_EXEMPLAR_FILTER" in copied, copied["OTEL_TRACES_SAMPLER"], copied["EMPTY"]) == (
        False,
        "always_on",
        "",
    )
