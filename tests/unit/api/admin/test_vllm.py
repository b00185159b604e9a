"""The metrics by vLLM's names: read off ours, with vLLM's types and labels."""

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.resources import Resource
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gateway.api.admin.vllm import VllmMetrics
from gateway.engine import Health, ModelCard, Status
from gateway.telemetry.metrics import Metrics

DEPLOY = Path(__file__).parents[4] / "deploy/README.md"
TINY = {"model_name": "tiny", "engine": "main"}


def card(name="tiny", **more):
    return ModelCard(name=name, context_window=64, capabilities=frozenset(), **more)


def hosted(*cards, **more):
    told = Status(health=Health.READY, preemptions=3)
    known = {"name": "main", "cards": cards, "health": Health.READY, "cache_used": 24, "told": told}
    return SimpleNamespace(**known | more)


@pytest.fixture
def scrape():
    """Show metrics that `fill` fills and an engine: `scrape(fill, engine)` gives families by name."""

    def read(fill=lambda metrics: None, engine=None, **queues):
        metrics = Metrics(Resource.get_empty(), dict)
        fill(metrics)
        engine = engine or hosted(card(cache_tokens=96, block_tokens=16))
        directory = SimpleNamespace(
            engines=[engine],
            loaded=lambda: [("hf", card) for card in engine.cards] if engine.health is Health.READY else [],
        )
        admission = SimpleNamespace(
            queues={
                name: SimpleNamespace(waiting=waiting, places=SimpleNamespace(running=running))
                for name, (running, waiting) in queues.items()
            }
        )
        metrics.also_show(VllmMetrics(metrics, directory, admission))
        families = text_string_to_metric_families(metrics.render()[0].decode())
        opened = read_openmetrics(metrics.render("application/openmetrics-text")[0].decode())
        both = [{sample.name for family in found for sample in family.samples} for found in (families, opened)]
        assert {name for name in both[0] if name.startswith("vllm:")} <= both[1]
        families = text_string_to_metric_families(metrics.render()[0].decode())
        return {family.name: family for family in families if family.name.startswith("vllm:")}

    return read


def samples(family):
    """Map the samples of a family, but its buckets, by what follows the labels that all have."""
    found = {}
    for sample in family.samples:
        assert sample.labels.items() >= TINY.items() or "max_lora" in sample.labels, sample
        more = tuple(value for name, value in sample.labels.items() if name not in TINY)
        if "le" not in sample.labels:
            found[sample.name.removeprefix(family.name), *more] = sample.value
    return found


def test_an_answer_is_found_under_each_name(scrape):
    def fill(metrics):
        metrics.prompt_tokens.add(40, "tiny")
        metrics.cached_tokens.add(30, "tiny")
        metrics.tokens_generated.add(7, "tiny")
        for operation in ("chat", "text_completion"):
            metrics.first_token.record(0.25, operation, "hf", "tiny")
            metrics.output_token.record(0.5, operation, "hf", "tiny")
        metrics.generation_duration.record(4.0, "tiny")
        metrics.queue_wait.record(1.0, "tiny")
        metrics.answers.phase_duration.record(0.5, "tiny", "prefill")
        metrics.answers.phase_duration.record(2.5, "tiny", "decode")
        metrics.answers.work_duration.record(3.0, "tiny")
        for tokens, kind in ((40, "input"), (7, "output"), (9, "limit")):
            metrics.answers.generation_tokens.record(tokens, "tiny", kind)
        metrics.answers.answers_asked.record(2, "tiny")

    found = scrape(fill, tiny=(5, 6))
    gauges = {"num_requests_running": 5, "num_requests_waiting": 6, "kv_cache_usage_perc": 0.25}
    gauges["gpu_cache_usage_perc"] = 0.25
    for name, value in gauges.items():
        assert (found[f"vllm:{name}"].type, samples(found[f"vllm:{name}"])) == ("gauge", {("",): value}), name
    counters = {"prompt_tokens": 40, "prefix_cache_queries": 40, "prefix_cache_hits": 30, "generation_tokens": 7}
    counters |= {"prompt_tokens_cached": 30, "num_preemptions": 3}
    for name, value in counters.items():
        assert (found[f"vllm:{name}"].type, samples(found[f"vllm:{name}"])) == ("counter", {("_total",): value}), name
    histograms = {
        "time_to_first_token_seconds": (2, 0.5),
        "inter_token_latency_seconds": (2, 1.0),
        "time_per_output_token_seconds": (2, 1.0),
        "request_time_per_output_token_seconds": (2, 1.0),
        "e2e_request_latency_seconds": (1, 4.0),
        "request_queue_time_seconds": (1, 1.0),
        "request_prefill_time_seconds": (1, 0.5),
        "request_decode_time_seconds": (1, 2.5),
        "request_inference_time_seconds": (1, 3.0),
        "request_prompt_tokens": (1, 40),
        "request_generation_tokens": (1, 7),
        "request_max_num_generation_tokens": (1, 7),
        "request_params_max_tokens": (1, 9),
        "request_params_n": (1, 2),
    }
    for name, (count, total) in histograms.items():
        family = found[f"vllm:{name}"]
        assert (family.type, samples(family)) == ("histogram", {("_count",): count, ("_sum",): total}), name
    others = {"vllm:request_success", "vllm:cache_config_info"}
    assert found.keys() == {f"vllm:{name}" for name in (*gauges, *counters, *histograms)} | others


def test_the_buckets_count_what_is_below_their_ends(scrape):
    def fill(metrics):
        for seconds in (0.0005, 0.003, 0.004, 20.0):
            metrics.first_token.record(seconds, "chat", "hf", "tiny")

    buckets = [it for it in scrape(fill)["vllm:time_to_first_token_seconds"].samples if "le" in it.labels]
    assert [(it.labels["le"], it.value) for it in buckets[:3]] == [("0.001", 1), ("0.005", 3), ("0.01", 3)]
    assert [(it.labels["le"], it.value) for it in buckets[-2:]] == [("10.0", 3), ("+Inf", 4)]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("stop", "stop"),
        ("tool_calls", "stop"),
        ("length", "length"),
        ("deadline", "abort"),
        ("client_closed_request", "abort"),
        ("engine_error", "error"),
    ],
)
def test_an_end_is_told_in_vllms_words(scrape, reason, told):
    family = scrape(lambda metrics: metrics.answers.generations.add(2, "tiny", reason))["vllm:request_success"]
    assert all(sample.labels.keys() == {"model_name", "engine", "finished_reason"} for sample in family.samples)
    ends = Counter({sample.labels["finished_reason"]: sample.value for sample in family.samples})
    assert ends == Counter({"stop": 0, "length": 0, "abort": 0, "error": 0} | {told: 2})


def test_a_loaded_model_has_its_series_before_its_first_request(scrape):
    found = scrape()
    assert samples(found["vllm:num_requests_running"]) == {("",): 0}
    assert samples(found["vllm:generation_tokens"]) == {("_total",): 0}
    assert samples(found["vllm:e2e_request_latency_seconds"]) == {("_count",): 0, ("_sum",): 0}


def test_what_an_engine_does_not_say_is_not_there(scrape):
    found = scrape(engine=hosted(card(), told=Status(health=Health.READY)))
    empty = {name.removeprefix("vllm:") for name, family in found.items() if not family.samples}
    assert empty == {"kv_cache_usage_perc", "gpu_cache_usage_perc", "num_preemptions", "cache_config_info"}
    assert "vllm:lora_requests_info" not in found
    unloaded = scrape(engine=hosted(card(cache_tokens=96), health=Health.UNLOADED))
    assert not unloaded["vllm:kv_cache_usage_perc"].samples


def test_the_cache_is_described_in_blocks(scrape):
    (sample,) = scrape()["vllm:cache_config_info"].samples
    assert sample.labels == TINY | {"block_size": "16", "num_gpu_blocks": "6", "kv_cache_size_tokens": "96"}
    assert sample.value == 1


def test_adapters_are_named_and_share_the_places_and_the_cache_of_their_model(scrape):
    cards = (card(cache_tokens=96), card("sql", parent="tiny", cache_tokens=96), card("law", parent="tiny"))
    found = scrape(engine=hosted(*cards))
    (info,) = found["vllm:lora_requests_info"].samples
    assert info.labels == {"max_lora": "2", "running_lora_adapters": "law,sql", "waiting_lora_adapters": ""}
    assert info.value > 1.6e9
    assert samples(found["vllm:kv_cache_usage_perc"]) == {("",): 0.25}
    assert samples(found["vllm:num_requests_running"]) == {("",): 0}


def test_the_page_lists_exactly_these_names(scrape):
    listed = DEPLOY.read_text().partition("### Metrics by vLLM's names")[2].partition("Buckets are ours")[0]
    named = {name.removesuffix("_total") for name in re.findall(r"`(vllm:\w+)`", listed)}
    assert named == scrape(engine=hosted(card(), card("sql", parent="tiny"))).keys()
