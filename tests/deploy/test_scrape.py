"""Prometheus understands the running service."""

import pytest

from gateway.auth import KeyFile, Scope
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
