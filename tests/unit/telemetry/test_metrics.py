import asyncio
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics

from gateway.engine import ModelCard
from gateway.telemetry.metrics import MOST_KEYS, OTHER_KEYS, Metrics
from tests.support.prometheus import path_of

KEY_TOKENS = "llm_gateway_key_tokens_total"
NAMES = {
    "llm_gateway_requests_total",
    "llm_gateway_request_duration_seconds",
    "llm_gateway_tokens_generated_total",
    "llm_gateway_prompt_tokens_total",
    "llm_gateway_cached_tokens_total",
    "llm_gateway_generation_duration_seconds",
    "llm_gateway_active_requests",
    "llm_gateway_model_info",
    "llm_gateway_engine_up",
    "llm_gateway_rejected_total",
    "llm_gateway_client_disconnects_total",
    "llm_gateway_stream_aborts_total",
    "llm_gateway_telemetry_dropped_total",
    "gen_ai_server_request_duration_seconds",
    "gen_ai_server_time_to_first_token_seconds",
    "gen_ai_server_time_per_output_token_seconds",
}


@pytest.fixture
def metrics(watched, card):
    """Metrics where each has a series."""
    metrics: Metrics = watched.telemetry.metrics
    metrics.watch(models=lambda: [("default", card)], engines=lambda: {"default": True, "spare": False})
    metrics.requests.add(1, "200", "/x", "tiny")
    metrics.request_duration.record(0.1, "/x", "200")
    for tally in (metrics.tokens_generated, metrics.prompt_tokens, metrics.cached_tokens, metrics.active_requests):
        tally.add(1, "tiny")
    for tally in (metrics.rejected, metrics.client_disconnects, metrics.stream_aborts):
        tally.add(1, "some")
    metrics.generation_duration.record(0.1, "tiny")
    metrics.server_duration.record(0.1, "chat", "hf", "tiny", "")
    metrics.first_token.record(0.1, "chat", "hf", "tiny")
    metrics.output_token.record(0.1, "chat", "hf", "tiny")
    return metrics


def test_the_names_are_exact(metrics):
    lines = metrics.render()[0].decode().splitlines()
    types = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    ours = {name for name in types if name.startswith(("llm_gateway", "gen_ai"))}
    assert ours == NAMES


def test_every_metric_has_a_description(metrics):
    lines = metrics.render()[0].decode().splitlines()
    assert [line for line in lines if line.startswith("# HELP") and len(line.split()) < 4] == []


def test_promtool_accepts_the_text(metrics):
    body, _ = metrics.render()
    check = subprocess.run([path_of("promtool"), "check", "metrics"], input=body, capture_output=True, check=False)
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain;version=0.0.4"])
def test_the_classic_text_is_the_default(metrics, accept):
    assert metrics.render(accept)[1] == "text/plain; version=0.0.4; charset=utf-8"


def test_who_accepts_openmetrics_gets_it(metrics):
    body, content_type = metrics.render("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name for family in read_openmetrics(body.decode())}
    assert {"llm_gateway_requests", "gen_ai_server_time_to_first_token_seconds"} <= families


def test_a_loaded_model_is_1_and_vanishes_when_unloaded(metrics, samples, card):
    (labels,) = samples("llm_gateway_model_info")
    assert dict(labels) == {
        "model": "tiny",
        "engine": "default",
        "device": "cpu",
        "dtype": "float32",
        "context_window": "64",
        "owner": "me",
    }
    other = ModelCard(name="other", context_window=1, capabilities=frozenset())
    metrics.watch(models=lambda: [("default", other)], engines=dict)
    assert [dict(labels)["model"] for labels in samples("llm_gateway_model_info")] == ["other"]
    metrics.watch(models=list, engines=dict)
    assert samples("llm_gateway_model_info") == {}


def test_engines_are_up_or_not(metrics, samples):
    assert samples("llm_gateway_engine_up") == {(("engine", "default"),): 1, (("engine", "spare"),): 0}


def test_losses_are_reported_by_signal(metrics, samples, watched):
    watched.telemetry._log._lines.dropped = 3
    assert samples("llm_gateway_telemetry_dropped_total") == {(("signal", "logs"),): 3, (("signal", "spans"),): 0}


def test_scrapes_of_one_second_share_a_rendering(metrics, monkeypatch):
    collected = []
    monkeypatch.setattr("gateway.telemetry.metrics.monotonic", lambda: 100.0)
    metrics.watch(models=lambda: collected.append(1) or (), engines=dict)
    with ThreadPoolExecutor(8) as pool:
        bodies = {body for body, _ in pool.map(metrics.render, [""] * 50)}
    assert (len(bodies), len(collected)) == (1, 1)
    monkeypatch.setattr("gateway.telemetry.metrics.monotonic", lambda: 101.0)
    metrics.render()
    assert len(collected) == 2


async def test_counting_goes_on_while_a_thread_renders(metrics):
    rendering = asyncio.to_thread(lambda: [metrics._rendered.clear() or metrics.render() for _ in range(20)])
    task = asyncio.create_task(rendering)
    for number in range(20_000):
        metrics.rejected.add(1, str(number % 500))
        if number % 1000 == 0:
            await asyncio.sleep(0)
    assert len(await task) == 20


def test_tokens_are_counted_for_a_bounded_number_of_keys(watched, samples):
    metrics = watched.telemetry.metrics
    for number in range(MOST_KEYS + 50):
        metrics.add_key_tokens(f"k{number}", 3, 4)
    metrics.add_key_tokens("k0", 1, 2)
    found = {(dict(labels)["key_id"], dict(labels)["type"]): value for labels, value in samples(KEY_TOKENS).items()}
    assert len({key for key, _ in found}) == MOST_KEYS + 1
    assert (found["k0", "input"], found["k0", "output"]) == (4, 6)
    assert (found[OTHER_KEYS, "input"], found[OTHER_KEYS, "output"]) == (150, 200)
