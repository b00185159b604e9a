"""Gauges: sampled at each scrape."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from gateway.admission import Admission
from gateway.api.admin.vllm import VllmMetrics
from gateway.api.batches.runner import BatchRunner
from gateway.api.edge import Edge
from gateway.background import Background
from gateway.cache import Cache
from gateway.config import TelemetrySettings
from gateway.config.snapshot import CurrentConfig
from gateway.flow.breaker import State
from gateway.hosting.directory import Directory
from gateway.hosting.hosting import Hosting
from gateway.hosting.loads import Loads
from gateway.limits import Limiter
from gateway.service import Inference
from gateway.store import Store
from gateway.telemetry import Metrics

Q = TypeVar("Q")

_ALIASES = {"vllm": VllmMetrics}
_BREAKER = {State.CLOSED: 0.0, State.HALF_OPEN: 0.5, State.OPEN: 1.0}


def register_aliases(metrics: Metrics, settings: TelemetrySettings, hosting: Hosting, admission: Admission) -> None:
    """Have the metrics shown by other names too, as the configuration says."""
    for name in dict.fromkeys(settings.aliases):
        metrics.also_show(_ALIASES[name](metrics, hosting.directory, admission))


def register_models(metrics: Metrics, loads: Loads) -> None:
    """Register what is loaded and unloaded."""
    counts = loads.counts
    metrics.observe_count(
        "model_loads",
        "Loads of models: ok, failed, or refused since they can never fit.",
        ("engine", "result"),
        lambda: dict(counts.loads),
    )
    metrics.observe_count(
        "model_load_seconds", "Time that successful loads took.", ("engine",), lambda: dict(counts.seconds)
    )
    metrics.observe_count(
        "model_evictions",
        "Models that were unloaded for the room of another, or since they were idle.",
        ("engine", "reason"),
        lambda: dict(counts.evictions),
    )
    metrics.observe(
        "model_resident",
        "Whether an engine's model takes memory: loading, loaded or leaving.",
        ("engine",),
        loads.resident,
    )
    metrics.observe(
        "model_size_bytes",
        "Memory that the models which are there count for, by the estimate or as measured.",
        ("engine",),
        loads.sizes,
    )


def register(metrics: Metrics, hosting: Hosting, admission: Admission, limiter: Limiter, edge: Edge) -> None:
    """Register the gauges; they are sampled on the thread that renders."""
    queues, directory = admission.queues, hosting.directory
    register_models(metrics, hosting.loads)
    metrics.watch(directory.loaded, directory.up)
    metrics.observe("in_flight_requests", "HTTP requests under way.", (), lambda: {(): edge.in_flight})
    bodies, answers = edge.bodies, edge.outgoing.budget
    metrics.observe("held_body_bytes", "Bodies above 64 KiB that are held.", (), lambda: {(): bodies.held})
    metrics.observe("unsent_bytes", "Answers above 16 KiB that are being sent.", (), lambda: {(): answers.held})
    metrics.observe_count(
        "engine_restarts",
        "Times that an engine's process was replaced.",
        ("engine", "reason"),
        directory.restarts,
    )
    _register_engines(metrics, directory, admission)
    metrics.observe(
        "places",
        "Answers that a model makes side by side.",
        ("model",),
        lambda: {
            **{(name,): total for name, total in directory.places().items()},
            **{(name,): queue.places.total for name, queue in list(queues.items())},
        },
    )
    metrics.observe(
        "places_held",
        "Places that are taken.",
        ("model",),
        lambda: _by_model(directory, queues, lambda queue: queue.places.running),
    )
    metrics.observe(
        "queue_depth",
        "Generations that wait for a place.",
        ("model",),
        lambda: _by_model(directory, queues, lambda queue: queue.waiting),
    )
    questions = admission.questions
    metrics.observe(
        "question_queue_depth",
        "Questions about prompts (tokens, templates) that wait for their turn.",
        ("model",),
        lambda: _by_model(directory, questions, lambda queue: queue.waiting),
    )
    metrics.observe(
        "breaker_state",
        "Whether an upstream is left alone: 0 asked, 1 left alone, 0.5 tried with one request.",
        ("upstream",),
        lambda: _by_model(directory, queues, lambda queue: _BREAKER[queue.breaker.state]),
    )
    metrics.observe(
        "ratelimit_degraded",
        "Whether the shared store of the limits is down.",
        (),
        lambda: {(): int(limiter.is_degraded)},
    )


def _by_model(
    directory: Directory, queues: Mapping[str, Q], read: Callable[[Q], float]
) -> dict[tuple[str, ...], float]:
    """Read every queue; a model of which nothing was asked yet has none, and counts as 0, so that it has a series."""
    found: dict[tuple[str, ...], float] = {(name,): 0.0 for name in directory.places()}
    found.update({(name,): read(queue) for name, queue in list(queues.items())})
    return found


def _register_engines(metrics: Metrics, directory: Directory, admission: Admission) -> None:
    metrics.observe(
        "engine_wanted",
        "Whether an engine is to serve: 0 where it was unloaded by hand, or is loaded by hand only and was not.",
        ("engine",),
        directory.wanted,
    )
    metrics.observe("engine_memory_bytes", "Resident memory of an engine's process.", ("engine",), directory.memory)
    metrics.observe_count(
        "engine_cpu_seconds", "Time that an engine's process has computed for.", ("engine",), directory.cpu_seconds
    )
    metrics.observe_count(
        "preemptions",
        "Times that an answer lost its room in the cache to another, and was computed again.",
        ("engine",),
        directory.preemptions,
    )
    metrics.observe(
        "model_drift",
        "How far a model was at load from what it once said: in nats a token, or of vectors as a cosine distance.",
        ("model",),
        directory.drifts,
    )
    metrics.observe(
        "kv_cache_used_tokens",
        "Tokens that running generations have in the cache of keys and values.",
        ("engine",),
        directory.cache_used,
    )
    metrics.observe(
        "kv_cache_held_tokens",
        "Tokens that admitted generations may take at most: their prompts and their longest answers.",
        ("model",),
        lambda: _by_model(directory, admission.queues, lambda queue: queue.places.tokens),
    )
    metrics.observe(
        "kv_cache_size_tokens",
        "Tokens that the cache of keys and values has room for.",
        ("model",),
        directory.cache_sizes,
    )


def register_keys(metrics: Metrics, current: CurrentConfig) -> None:
    """Register the state of the file of keys."""
    metrics.observe(
        "key_file_unreadable",
        "Whether the file of keys cannot be read: 0 it can, 1 the last known keys are in force.",
        (),
        lambda: {(): int(bool(current.snapshot.keyring.trouble))},
    )


def register_answers(metrics: Metrics, inference: Inference, batches: BatchRunner, current: CurrentConfig) -> None:
    """Register the state of keys, and of answers that are cached, stored, or made in the background or of batches."""
    register_keys(metrics, current)
    register_batches(metrics, batches)
    register_cache(metrics, inference.cache)
    register_store(metrics, inference.store, inference.background)


def register_cache(metrics: Metrics, cache: Cache) -> None:
    """Register the gauges and counts of the cache of answers."""
    counts = cache.counts
    metrics.observe_count(
        "cache_requests",
        "Generations by how they came to their answers: kept, shared with another under way, made, or past the cache.",
        ("result",),
        lambda: {
            ("hit",): counts.hits,
            ("coalesced",): counts.coalesced,
            ("miss",): counts.misses,
            ("bypass",): counts.bypassed,
        },
    )
    metrics.observe_count("cache_stores", "Answers that were kept.", (), lambda: {(): counts.stores})
    metrics.observe_count("cache_evictions", "Answers that went since others came.", (), lambda: {(): cache.evictions})
    metrics.observe("cache_bytes", "Memory that the kept answers take.", (), lambda: {(): cache.size})


def register_store(metrics: Metrics, store: Store, background: Background) -> None:
    """Register the gauges and counts of what is stored for callers, and of the answers that are made for it."""
    metrics.observe(
        "background_answers", "Answers that are made in the background.", (), lambda: {(): background.count}
    )
    metrics.observe("store_bytes", "What stored answers and conversations take.", (), lambda: {(): store.size})
    metrics.observe("store_entries", "Stored answers and conversations.", (), lambda: {(): store.entries})
    metrics.observe(
        "store_degraded", "Whether nothing can be stored, as on a full disk.", (), lambda: {(): int(store.is_degraded)}
    )
    metrics.observe_count(
        "store_evictions", "Stored answers that went since others came.", (), lambda: {(): store.evicted}
    )
    metrics.observe_count(
        "store_failures", "Attempts to store or find something that failed.", (), lambda: {(): store.failures}
    )


def register_batches(metrics: Metrics, batches: BatchRunner) -> None:
    """Register the state of batches."""
    metrics.observe("batches", "Batches that are under way.", (), lambda: {(): batches.under_way})
    metrics.observe_count(
        "batch_lines",
        "Lines of batches by their ends: answered, failed, or given up for a request until later.",
        ("result",),
        lambda: {
            ("completed",): batches.counts["completed"],
            ("failed",): batches.counts["failed"],
            ("gave_way",): batches.given_way,
        },
    )
