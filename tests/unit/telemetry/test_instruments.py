import re

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanContext, TraceFlags
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics

from gateway.telemetry.instruments import Distribution
from gateway.telemetry.metrics import Metrics
from tests.support.prometheus import promtool

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def span(number: int) -> SpanContext:
    return SpanContext(number, number, is_remote=False, trace_flags=TraceFlags(1))


def trace_id(number: int) -> str:
    return f"{number:032x}"


@pytest.fixture
def distribution():
    return Distribution("llm_gateway.some.duration", "Some.", (0.1, 1), ("gen_ai.request.model",))


def buckets(distribution):
    """Map the upper end of each bucket to its count and exemplar."""
    samples = [sample for sample in distribution.read().samples if sample.name.endswith("_bucket")]
    return {sample.labels["le"]: (sample.value, sample.exemplar) for sample in samples}


def test_a_series_is_named_and_counted_as_prometheus_has_it(distribution):
    for seconds in (0.05, 0.1, 0.5, 7):
        distribution.record(seconds, "m")
    found = {(sample.name, sample.labels.get("le")): sample.value for sample in distribution.read().samples}
    name = "llm_gateway_some_duration_seconds"
    assert found == {
        (f"{name}_bucket", "0.1"): 2,
        (f"{name}_bucket", "1"): 3,
        (f"{name}_bucket", "+Inf"): 4,
        (f"{name}_count", None): 4,
        (f"{name}_sum", None): 7.65,
    }
    assert all(sample.labels["gen_ai_request_model"] == "m" for sample in distribution.read().samples)


def test_what_is_counted_has_no_unit_in_its_name():
    tokens = Distribution("llm_gateway.some.tokens", "Some.", (1,), (), unit="{token}")
    tokens.record(1)
    assert tokens.read().samples[0].name == "llm_gateway_some_tokens_bucket"


def test_a_bucket_has_the_trace_of_the_last_measurement_that_had_one(distribution, monkeypatch):
    monkeypatch.setattr("gateway.telemetry.instruments.time", lambda: 1_700_000_000.12345)
    distribution.record(0.5, "m", trace=span(1))
    distribution.record(0.7, "m", trace=span(2))
    distribution.record(0.6, "m")
    distribution.record(7, "m", trace=span(3))
    found = {end: exemplar for end, (_, exemplar) in buckets(distribution).items() if exemplar is not None}
    assert set(found) == {"1", "+Inf"}
    assert found["1"].labels == {"trace_id": trace_id(2), "span_id": f"{2:016x}"}
    assert (found["1"].value, found["1"].timestamp) == (0.7, 1_700_000_000.123)
    assert found["+Inf"].labels["trace_id"] == trace_id(3)


def test_series_do_not_share_their_traces(distribution):
    distribution.record(0.5, "m", trace=span(1))
    distribution.record(0.5, "other", trace=span(4))
    found = {
        (sample.labels["gen_ai_request_model"], sample.labels["le"]): sample.exemplar.labels["trace_id"]
        for sample in distribution.read().samples
        if sample.exemplar is not None
    }
    assert found == {("m", "1"): trace_id(1), ("other", "1"): trace_id(4)}


@pytest.fixture
def metrics():
    metrics = Metrics(Resource.get_empty(), lambda: {"spans": 0})
    metrics.first_token.record(0.07, "chat", "echo", "m", trace=span(5))
    metrics.shadow_divergence.record(3, "echo")
    return metrics


def test_openmetrics_has_the_exemplar_and_the_classic_text_is_as_without(metrics):
    families = read_openmetrics(metrics.render(OPENMETRICS)[0].decode())
    (exemplar,) = [sample.exemplar for family in families for sample in family.samples if sample.exemplar]
    assert exemplar.labels["trace_id"] == trace_id(5)
    text = metrics.render()[0].decode()
    assert "trace_id" not in text
    promtool("check", "metrics", text=text)


def test_promtool_reads_the_exemplars(metrics, tmp_path):
    """Its `check metrics` reads the classic text only; of OpenMetrics it makes blocks, once each sample has a time."""
    text = metrics.render(OPENMETRICS)[0].decode()
    timed = re.sub(r"^([^#\n][^\n]*? \S+)( # \{[^\n]*)?$", r"\1 1700000000\2", text, flags=re.MULTILINE)
    assert ' 1700000000 # {span_id="' in timed
    file = tmp_path / "metrics"
    file.write_text(timed)
    assert "NUM SERIES" in promtool("tsdb", "create-blocks-from", "openmetrics", file, tmp_path / "blocks")
