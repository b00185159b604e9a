"""Metrics: OpenTelemetry instruments with closed label sets, rendered for Prometheus.

Dotted names and units become Prometheus names: `llm_gateway.request.duration` in seconds is
`llm_gateway_request_duration_seconds`. OpenTelemetry's exporter writes counters and gauges; it has no place for
exemplars, so the distributions are a collector beside it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from threading import Lock
from time import monotonic

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from gateway.engine import ModelCard
from gateway.telemetry import semconv
from gateway.telemetry.answer_metrics import AnswerMetrics
from gateway.telemetry.instruments import Distribution, Tally

Readings = Mapping[tuple[str, ...], float]

_SCOPE = "gateway"
_CACHE_SECONDS = 1.0
# The keys that have a series of their own, and the label of all others.
MOST_KEYS = 200
OTHER_KEYS = "(other)"
_OPENMETRICS = "application/openmetrics-text"
# All names are plain ones; left to itself the library writes an underscore for a colon, which other servers' have.
_write_open = partial(openmetrics.generate_latest, escaping=openmetrics.ALLOWUTF8)


class Metrics:
    """Every metric of the gateway; all but `render` belong to the event loop's thread."""

    def __init__(self, resource: Resource, dropped: Callable[[], Mapping[str, int]]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        reader = PrometheusMetricReader(registry=self._registry, scope_info_enabled=False)
        provider = MeterProvider([reader], resource, shutdown_on_exit=False)
        self._distributions = _Distributions()
        self._registry.register(self._distributions)
        self._meter = provider.get_meter(_SCOPE, schema_url=semconv.SCHEMA_URL)
        self._dropped = dropped
        self._models: Callable[[], Iterable[tuple[str, ModelCard]]] = tuple
        self._engines: Callable[[], Mapping[str, bool]] = dict
        self._rendered: dict[bool, tuple[float, bytes]] = {}
        self._rendering = Lock()
        self._count_requests()
        self._count_generations()
        self.answers = AnswerMetrics(self._counter, self._distribution)
        self._observe_state()

    def also_show(self, collector: Collector) -> None:
        """Show at each scrape what a collector finds then; it is asked on the thread that renders."""
        self._registry.register(collector)

    def watch(
        self, models: Callable[[], Iterable[tuple[str, ModelCard]]], engines: Callable[[], Mapping[str, bool]]
    ) -> None:
        """Say where to look at a scrape: the loaded models with their engines' names, and which engines are up.

        Both are called on the thread that renders.
        """
        self._models = models
        self._engines = engines

    def observe(self, name: str, description: str, labels: Sequence[str], read: Callable[[], Readings]) -> None:
        """Show what `read` finds at a scrape: a gauge; numbers by label values, which come in the order of `labels`."""
        self._gauge(name, description, _reader(labels, read))

    def observe_count(self, name: str, description: str, labels: Sequence[str], read: Callable[[], Readings]) -> None:
        """Show a number that only grows."""
        self._meter.create_observable_counter(f"llm_gateway.{name}", [_reader(labels, read)], description=description)

    def add_key_tokens(self, key: str, prompt: int, answer: int) -> None:
        """Count the tokens that a generation took for a key; after the first 200 keys, all others are one."""
        if key not in self._keys:
            if len(self._keys) >= MOST_KEYS:
                key = OTHER_KEYS
            self._keys.add(key)
        self._key_tokens.add(prompt, key, "input")
        self._key_tokens.add(answer, key, "output")

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the exposition and its content type: OpenMetrics for a client that accepts it, else the classic text.

        OpenMetrics has exemplars: in each bucket the trace of its last measurement that has one. To render takes
        milliseconds: call it in a thread. A second's scrapes share one rendering.
        """
        is_open = _OPENMETRICS in accept
        with self._rendering:
            made, body = self._rendered.get(is_open, (-_CACHE_SECONDS, b""))
            if monotonic() - made >= _CACHE_SECONDS:
                write = _write_open if is_open else generate_latest
                body = write(self._registry)
                self._rendered[is_open] = (monotonic(), body)
        return body, openmetrics.CONTENT_TYPE_LATEST if is_open else CONTENT_TYPE_PLAIN_0_0_4

    def _count_requests(self) -> None:
        self.requests = self._counter("requests", "HTTP requests answered.", "status", "endpoint", "model")
        self.errors = self._counter(
            "errors",
            "Requests that failed, each once, by whose fault it is (caller, policy, engine, upstream, service).",
            "domain",
            "code",
            "model",
        )
        self.rejected = self._counter("rejected", "Requests refused, by error code.", "code")
        self.shed = self._counter("shed", "Generations turned away for want of room, by error code.", "reason")
        self.fallbacks = self._counter(
            "fallbacks", "Requests that another engine of their route took over, by why.", "model", "reason"
        )
        self.try_duration = self._distribution(
            "llm_gateway.try.duration",
            "Time until an engine of a route began an answer, or failed: then with the error's code as its reason.",
            semconv.FIRST_TOKEN_BUCKETS,
            ("engine", "reason"),
        )
        self.shadows = self._counter(
            "shadows",
            "Copies of a route's requests: how their answers compare, or why there is none.",
            "engine",
            "result",
        )
        self.shadow_duration = self._distribution(
            "llm_gateway.shadow.duration",
            "Time at work of answers that were copied, and of their copies.",
            semconv.REQUEST_BUCKETS,
            ("engine", "answer"),
        )
        self.shadow_divergence = self._distribution(
            "llm_gateway.shadow.divergence",
            "Tokens of an answer before the first in which its copy differs.",
            semconv.TOKEN_BUCKETS,
            ("engine",),
            unit="{token}",
        )
        self.auth_failures = self._counter("auth_failures", "Credentials that were refused, by why.", "reason")
        self.client_disconnects = self._counter("client_disconnects", "Clients that left too early.", "phase")
        self.stream_aborts = self._counter("stream_aborts", "Streams that ended in an error, by its code.", "cause")
        self.request_duration = self._distribution(
            "llm_gateway.request.duration",
            "Time from an HTTP request's arrival to the end of its answer.",
            semconv.HTTP_BUCKETS,
            ("endpoint", "status"),
        )

    def _count_generations(self) -> None:
        self.tokens_generated = self._counter("tokens_generated", "Tokens that models wrote.", "model")
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts.", "model")
        self.cached_tokens = self._counter("cached_tokens", "Tokens of prompts that were not computed again.", "model")
        self._key_tokens = self._counter(
            "key_tokens",
            "Tokens that were charged to a key, by its id, for 200 keys; then (other).",
            "key_id",
            "type",
        )
        self._keys: set[str] = set()
        self.active_requests = Tally(("model",))
        self._gauge("active_requests", "Generations that run or wait.", self.active_requests.observe)
        self.queue_wait = self._distribution(
            "llm_gateway.queue.wait",
            "Time that a generation waited for its place.",
            semconv.REQUEST_BUCKETS,
            ("model",),
        )
        self.generation_duration = self._distribution(
            "llm_gateway.generation.duration",
            "Time of a generation from its request to its last token.",
            semconv.REQUEST_BUCKETS,
            ("model",),
        )
        self.server_duration = self._gen_ai(
            semconv.SERVER_REQUEST_DURATION, "Time to the last output token.", semconv.REQUEST_BUCKETS
        )
        self.first_token = self._gen_ai(
            semconv.SERVER_TIME_TO_FIRST_TOKEN, "Time to the first output token.", semconv.FIRST_TOKEN_BUCKETS
        )
        self.output_token = self._gen_ai(
            semconv.SERVER_TIME_PER_OUTPUT_TOKEN, "Time per output token after the first.", semconv.OUTPUT_TOKEN_BUCKETS
        )

    def _observe_state(self) -> None:
        self._gauge("model_info", "The models that are loaded; always 1.", self._observe_models)
        self._gauge("engine_up", "Whether an engine can serve.", self._observe_engines)
        self._meter.create_observable_counter(
            "llm_gateway.telemetry_dropped", [self._observe_dropped], description="Spans and log lines that were lost."
        )

    def _counter(self, name: str, description: str, *labels: str) -> Tally:
        tally = Tally(labels)
        self._meter.create_observable_counter(f"llm_gateway.{name}", [tally.observe], description=description)
        return tally

    def _distribution(
        self, name: str, description: str, bounds: Sequence[float], labels: tuple[str, ...], unit: str = "s"
    ) -> Distribution:
        self._distributions.all.append(Distribution(name, description, bounds, labels, unit))
        return self._distributions.all[-1]

    def _gauge(self, name: str, description: str, observe: Callable[[CallbackOptions], Iterable[Observation]]) -> None:
        self._meter.create_observable_gauge(f"llm_gateway.{name}", [observe], description=description)

    def _gen_ai(self, name: str, description: str, buckets: Sequence[float]) -> Distribution:
        labels = (semconv.OPERATION, semconv.PROVIDER, semconv.REQUEST_MODEL)
        with_error = (*labels, semconv.ERROR_TYPE) if name == semconv.SERVER_REQUEST_DURATION else labels
        return self._distribution(name, description, buckets, with_error)

    def _observe_models(self, _: CallbackOptions) -> list[Observation]:
        return [
            Observation(
                1,
                {
                    "model": card.name,
                    "engine": engine,
                    "device": card.device,
                    "dtype": card.dtype,
                    "context_window": str(card.context_window),
                    "owner": card.owner,
                },
            )
            for engine, card in self._models()
        ]

    def _observe_engines(self, _: CallbackOptions) -> list[Observation]:
        return [Observation(int(is_up), {"engine": engine}) for engine, is_up in self._engines().items()]

    def _observe_dropped(self, _: CallbackOptions) -> list[Observation]:
        return [Observation(number, {"signal": signal}) for signal, number in self._dropped().items()]


class _Distributions(Collector):
    """The distributions that measured anything."""

    def __init__(self) -> None:
        self.all: list[Distribution] = []

    def collect(self) -> list[HistogramMetricFamily]:
        return [family for each in self.all if (family := each.read()).samples]


def _reader(labels: Sequence[str], read: Callable[[], Readings]) -> Callable[[CallbackOptions], list[Observation]]:
    return lambda _: [Observation(number, dict(zip(labels, values, strict=True))) for values, number in read().items()]
