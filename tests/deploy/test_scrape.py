"""Prometheus understands the running service."""

import pytest

from gateway.auth import KeyFile, Scope
from tests.support.observe import eventually
from tests.support.otlp import otlp_receiver
from tests.support.prometheus import job, promtool, scraping
from tests.support.service import Service


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A service that asks for a key, which lies beside its keys in `scrape.key`."""
    folder = tmp_path_factory.mktemp("keys")
    key = KeyFile(folder / "keys.db").create("prometheus", scopes=frozenset({Scope.METRICS}))[1]
    (folder / "scrape.key").write_text(key + "\n")
    with Service(LLM_GATEWAY__AUTH__FILE=str(folder / "keys.db")) as running:
        running.scrape_key = folder / "scrape.key"
        yield running


@pytest.fixture(scope="module")
def prometheus(service, closed):
    """One for both services; for the second it has the key."""
    open_job = job(f"127.0.0.1:{service.port}")
    closed_job = job(f"127.0.0.1:{closed.port}", authorization={"credentials_file": str(closed.scrape_key)})
    with scraping(open_job, closed_job) as running:
        yield running


def test_promtool_finds_no_fault_in_the_metrics(service: Service):
    service.generate(prompt="one two three").raise_for_status()
    promtool("check", "metrics", text=service.client.get("/metrics").text)


def test_prometheus_scrapes_the_service(service: Service, prometheus):
    service.generate(prompt="one two three").raise_for_status()
    (up,) = prometheus.wait_for(f'up{{instance="127.0.0.1:{service.port}"}}')
    assert up.value == 1
    asked = prometheus.wait_for('llm_gateway_requests_total{status="200",endpoint="/v1/generate"}')
    assert sum(sample.value for sample in asked) >= 1
    (written,) = prometheus.wait_for('llm_gateway_tokens_generated_total{model="echo"}')
    assert written.value >= 3
    assert prometheus.query("llm_gateway_engine_up == 1")


def test_prometheus_scrapes_with_a_key_from_a_file(closed: Service, prometheus):
    assert prometheus.wait_for(f'up{{instance="127.0.0.1:{closed.port}"}} == 1')
    assert closed.client.get("/metrics").status_code == 401


def test_a_bucket_in_prometheus_leads_to_the_trace_of_a_request_in_it():
    with otlp_receiver() as receiver:
        with (
            Service(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_endpoint) as service,
            scraping(job(f"127.0.0.1:{service.port}")) as prometheus,
        ):
            service.client.post("/v1/generate", json={"prompt": "one two", "stream": True}).raise_for_status()
            slowest = "histogram_quantile(1, rate(gen_ai_server_request_duration_seconds_bucket[1m]))"
            (found,) = eventually(lambda: prometheus.exemplars(slowest), 60)
            promtool("check", "metrics", text=service.client.get("/metrics").text)
        (root,) = receiver.roots()
    (generation,) = root.children
    assert found == {"trace_id": root.span.trace_id.hex(), "span_id": generation.span.span_id.hex()}
