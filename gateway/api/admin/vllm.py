"""The metrics by the names that vLLM has for them, for dashboards and balancers that know those.

Everything is read off our own instruments at a scrape; nothing is counted twice. What ours do not measure as vLLM does
is not here. Names, types and labels: vllm/v1/metrics/loggers.py of vLLM; those of the adapters and of the cache's
configuration as the Kubernetes gateway-api-inference-extension reads them (its model server protocol, proposal 003).
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from opentelemetry.metrics import CallbackOptions
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from gateway.admission import Admission
from gateway.engine import FinishReason, Health, ModelCard
from gateway.hosting.directory import Directory
from gateway.telemetry import Metrics
from gateway.telemetry.answer_metrics import AnswerMetrics
from gateway.telemetry.instruments import Distribution, Tally
from gateway.telemetry.semconv import REQUEST_MODEL

_LABELS = ("model_name", "engine")
_ANY: Mapping[str, str] = {}


class CounterAlias(NamedTuple):
    """A counter of vLLM's, and the tally that counts it."""

    name: str
    description: str
    source: Callable[[Metrics], Tally]


class HistogramAlias(NamedTuple):
    """A histogram of vLLM's, and the series of ours that it adds up: those that have these labels."""

    name: str
    description: str
    source: Callable[[Metrics], Distribution]
    labels: Mapping[str, str] = _ANY


def _of_answers(name: str) -> Callable[[Metrics], Distribution]:
    def find(metrics: Metrics) -> Distribution:
        found: Distribution = getattr(metrics.answers, name)
        return found

    return find


_COUNTERS = (
    CounterAlias("vllm:prompt_tokens", "Tokens of prompts.", lambda metrics: metrics.prompt_tokens),
    CounterAlias("vllm:prompt_tokens_cached", "Tokens of prompts found cached.", lambda metrics: metrics.cached_tokens),
    CounterAlias("vllm:generation_tokens", "Tokens of answers.", lambda metrics: metrics.tokens_generated),
    CounterAlias("vllm:prefix_cache_queries", "Tokens looked for in caches.", lambda metrics: metrics.prompt_tokens),
    CounterAlias("vllm:prefix_cache_hits", "Tokens found in caches.", lambda metrics: metrics.cached_tokens),
)
_PER_TOKEN = "Time per token after the first: each answer's mean."
_HISTOGRAMS = (
    HistogramAlias("vllm:time_to_first_token_seconds", "Time to the first token.", lambda metrics: metrics.first_token),
    *(
        HistogramAlias(f"vllm:{name}_seconds", _PER_TOKEN, lambda metrics: metrics.output_token)
        for name in ("inter_token_latency", "time_per_output_token", "request_time_per_output_token")
    ),
    HistogramAlias(
        "vllm:e2e_request_latency_seconds",
        "Time from the request to its last token.",
        lambda metrics: metrics.generation_duration,
    ),
    HistogramAlias("vllm:request_queue_time_seconds", "Time in the queue.", lambda metrics: metrics.queue_wait),
    HistogramAlias(
        "vllm:request_prefill_time_seconds",
        "Time from a place to the first token.",
        _of_answers("phase_duration"),
        {"phase": "prefill"},
    ),
    HistogramAlias(
        "vllm:request_decode_time_seconds",
        "Time from the first token to the last.",
        _of_answers("phase_duration"),
        {"phase": "decode"},
    ),
    HistogramAlias(
        "vllm:request_inference_time_seconds", "Time from a place to the last token.", _of_answers("work_duration")
    ),
    HistogramAlias(
        "vllm:request_prompt_tokens", "Tokens of a prompt.", _of_answers("generation_tokens"), {"type": "input"}
    ),
    HistogramAlias(
        "vllm:request_generation_tokens", "Tokens of an answer.", _of_answers("generation_tokens"), {"type": "output"}
    ),
    HistogramAlias(
        "vllm:request_max_num_generation_tokens",
        "Tokens of an answer, each of several by itself.",
        _of_answers("generation_tokens"),
        {"type": "output"},
    ),
    HistogramAlias(
        "vllm:request_params_max_tokens",
        "Tokens that were asked for at most, where they were.",
        _of_answers("generation_tokens"),
        {"type": "limit"},
    ),
    HistogramAlias("vllm:request_params_n", "Answers asked for to one prompt.", _of_answers("answers_asked")),
)
# How our answers end, in vLLM's words; any other end is an error.
_REASONS = {
    FinishReason.STOP.value: "stop",
    FinishReason.TOOL_CALLS.value: "stop",
    FinishReason.LENGTH.value: "length",
    FinishReason.DEADLINE.value: "abort",
    "client_closed_request": "abort",
    "cancelled": "abort",
}
_ERROR = "error"


class VllmMetrics:
    """Finds the families of vLLM's names at a scrape; the label `engine` is the name of the engine here."""

    def __init__(self, metrics: Metrics, directory: Directory, admission: Admission) -> None:
        self._metrics = metrics
        self._directory = directory
        self._admission = admission

    def collect(self) -> Iterator[Metric]:
        """Yield all families; a loaded model has its series before its first request, as vLLM's has."""
        engines = {card.name: hosted.name for hosted in self._directory.engines for card in hosted.cards}
        models = [card for _, card in self._directory.loaded()]
        yield from self._scheduler(engines, models)
        yield from self._cache(engines)
        for counter in _COUNTERS:
            found = _by_model(counter.source(self._metrics), models)
            yield _counter(counter.name, counter.description, found, engines)
        yield self._ends(engines, models)
        for histogram in _HISTOGRAMS:
            yield _histogram(histogram, histogram.source(self._metrics), engines, models)
        yield from self._adapters(models)

    def _scheduler(self, engines: Mapping[str, str], models: Iterable[ModelCard]) -> Iterator[Metric]:
        running = {card.name: 0.0 for card in models if not card.parent}
        waiting = running.copy()
        for name, queue in list(self._admission.queues.items()):
            running[name], waiting[name] = queue.places.running, queue.waiting
        yield _gauge("vllm:num_requests_running", "Requests that have a place.", running, engines)
        yield _gauge("vllm:num_requests_waiting", "Requests that wait for a place.", waiting, engines)

    def _cache(self, engines: Mapping[str, str]) -> Iterator[Metric]:
        """Tell of the cache of each loaded model that has one: how full, how large, and what had to leave it."""
        used: dict[str, float] = {}
        preempted: dict[str, float] = {}
        layout = GaugeMetricFamily(
            "vllm:cache_config_info",
            "The cache of keys and values; always 1.",
            labels=(*_LABELS, "block_size", "num_gpu_blocks", "kv_cache_size_tokens"),
        )
        for hosted in self._directory.engines:
            cards = [card for card in hosted.cards if card.cache_tokens and not card.parent]
            if hosted.health is not Health.READY or not cards:
                continue
            card = cards[0]
            used[card.name] = hosted.cache_used / card.cache_tokens
            if hosted.told.preemptions is not None:
                preempted[card.name] = hosted.told.preemptions
            if card.block_tokens:
                numbers = (card.block_tokens, card.cache_tokens // card.block_tokens, card.cache_tokens)
                layout.add_metric((card.name, hosted.name, *map(str, numbers)), 1)
        for name in ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"):
            yield _gauge(name, "The part of the cache that is in use, from 0 to 1.", used, engines)
        yield _counter("vllm:num_preemptions", "Answers that lost their room.", preempted, engines)
        yield layout

    def _ends(self, engines: Mapping[str, str], models: Iterable[ModelCard]) -> Metric:
        counts = {(card.name, reason): 0.0 for card in models for reason in (*_REASONS.values(), _ERROR)}
        for point in self._answers.generations.observe(CallbackOptions()):
            model, reason = _label(point.attributes, "model"), _label(point.attributes, "reason")
            told = (model, _REASONS.get(reason, _ERROR))
            counts[told] = counts.get(told, 0.0) + point.value
        family = CounterMetricFamily(
            "vllm:request_success", "Answers that ended, by how.", labels=(*_LABELS, "finished_reason")
        )
        for (model, reason), number in counts.items():
            family.add_metric((model, engines.get(model, ""), reason), number)
        return family

    def _adapters(self, models: Iterable[ModelCard]) -> Iterator[Metric]:
        """Name the adapters, all of which are in memory as long as their model is; the value is the time, as vLLM's."""
        names = sorted(card.name for card in models if card.parent)
        if not names:
            return
        labels = ("max_lora", "running_lora_adapters", "waiting_lora_adapters")
        family = GaugeMetricFamily("vllm:lora_requests_info", "The adapters that are in memory.", labels=labels)
        family.add_metric((str(len(names)), ",".join(names), ""), time.time())
        yield family

    @property
    def _answers(self) -> AnswerMetrics:
        return self._metrics.answers


def _label(attributes: Mapping[str, object] | None, name: str) -> str:
    return str((attributes or {}).get(name, ""))


def _model(attributes: Mapping[str, object] | None) -> str:
    return _label(attributes, "model") or _label(attributes, REQUEST_MODEL)


def _by_model(tally: Tally, models: Iterable[ModelCard]) -> dict[str, float]:
    found = {card.name: 0.0 for card in models}
    for point in tally.observe(CallbackOptions()):
        model = _model(point.attributes)
        found[model] = found.get(model, 0.0) + point.value
    return found


def _gauge(name: str, description: str, found: Mapping[str, float], engines: Mapping[str, str]) -> Metric:
    family = GaugeMetricFamily(name, description, labels=_LABELS)
    for model, number in found.items():
        family.add_metric((model, engines.get(model, "")), number)
    return family


def _counter(name: str, description: str, found: Mapping[str, float], engines: Mapping[str, str]) -> Metric:
    family = CounterMetricFamily(name, description, labels=_LABELS)
    for model, number in found.items():
        family.add_metric((model, engines.get(model, "")), number)
    return family


def _histogram(
    alias: HistogramAlias, source: Distribution, engines: Mapping[str, str], models: Iterable[ModelCard]
) -> Metric:
    """Add up the series of each model, whose buckets are ours."""
    counts = {card.name: [0.0] * (len(source.bounds) + 1) for card in models}
    sums: defaultdict[str, float] = defaultdict(float)
    for labels, numbers, total in source.series():
        if alias.labels.items() <= labels.items():
            model = _model(labels)
            sums[model] += total
            before = counts.get(model, [0.0] * len(numbers))
            counts[model] = [a + b for a, b in zip(before, numbers, strict=True)]
    family = HistogramMetricFamily(alias.name, alias.description, labels=_LABELS)
    ends = [*map(floatToGoString, source.bounds), "+Inf"]
    for model, numbers in counts.items():
        below = [sum(numbers[: at + 1]) for at in range(len(numbers))]
        family.add_metric((model, engines.get(model, "")), list(zip(ends, below, strict=True)), sums[model])
    return family
