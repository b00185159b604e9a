"""Prometheus understands the running service."""

from gateway.auth import KeyFile, Scope
from tests.support.prometheus import promtool, scraping
from tests.support.service import Service


def test_promtool_finds_no_fault_in_the_metrics(service: Service):
    service.generate(prompt="one two three").raise_for_status()
    promtool("check", "metrics", text=service.client.get("/metrics").text)


def test_prometheus_scrapes_the_service(service: Service):
    service.generate(prompt="one two three").raise_for_status()
    with scraping(f"127.0.0.1:{service.port}") as prometheus:
        (up,) = prometheus.wait_for("up")
        assert up.value == 1
        asked = prometheus.wait_for('llm_gateway_requests_total{status="200",endpoint="/v1/generate"}')
        assert sum(sample.value for sample in asked) >= 1
        (written,) = prometheus.wait_for('llm_gateway_tokens_generated_total{model="echo"}')
        assert written.value >= 3
        assert prometheus.query("llm_gateway_engine_up == 1")


def test_prometheus_scrapes_with_a_key_from_a_file(tmp_path):
    file = tmp_path / "scrape.key"
    file.write_text(KeyFile(tmp_path / "keys.db").create("prometheus", scopes=frozenset({Scope.METRICS}))[1] + "\n")
    with Service(LLM_GATEWAY__AUTH__FILE=str(tmp_path / "keys.db")) as service:
        authorization = {"credentials_file": str(file)}
        with scraping(f"127.0.0.1:{service.port}", authorization=authorization) as prometheus:
            assert prometheus.wait_for("up == 1")
        assert service.client.get("/metrics").status_code == 401
