"""The two kinds of instrument: numbers that only count, and distributions.

Both are plain numbers that are read at a scrape: a request adds to a dozen of them, and each call of the SDK's own
instruments takes 5 to 10 µs, most of it to find the series of the labels again.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from time import time

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import SpanContext, format_span_id, format_trace_id
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.samples import Exemplar

# OpenTelemetry's units in Prometheus' words; what is counted, as `{token}`, is no unit there.
_UNITS = {"s": "seconds"}
# The upper end of a bucket as it is written, how many measurements are below it, and one of its own.
Bucket = tuple[str, float] | tuple[str, float, Exemplar]


class Tally:
    """Numbers by label values; written on the event loop's thread, read on any."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels
        self._numbers: dict[tuple[str, ...], int] = {}

    def add(self, amount: int, *values: str) -> None:
        """Add to the number of these label values, which come in the order of the labels."""
        self._numbers[values] = self._numbers.get(values, 0) + amount

    def observe(self, _: CallbackOptions) -> list[Observation]:
        """Tell OpenTelemetry the numbers."""
        numbers = self._numbers.copy()
        return [Observation(number, dict(zip(self._labels, values, strict=True))) for values, number in numbers.items()]


class Distribution:
    """Measurements, counted by buckets and label values; written on the event loop's thread, read on any.

    They are in seconds, unless the `unit` is another. `bounds` are the upper ends of the buckets; one more is above
    the last. Each bucket keeps its last measurement that has a trace: OpenMetrics has a place for it, an exemplar.
    """

    def __init__(
        self, name: str, description: str, bounds: Sequence[float], labels: tuple[str, ...], unit: str = "s"
    ) -> None:
        self.name = name
        self._description = description
        self.bounds = tuple(bounds)
        self._ends = (*map(str, bounds), "+Inf")
        self._labels = labels
        self._unit = _UNITS.get(unit, "")
        # For each series the counts of its buckets, and behind them the sum.
        self._series: dict[tuple[str, ...], list[float]] = {}
        # The measurement, its span, and the Unix time in seconds, by series and bucket.
        self._traced: dict[tuple[tuple[str, ...], int], tuple[float, SpanContext, float]] = {}

    def record(self, amount: float, *values: str, trace: SpanContext | None = None) -> None:
        """Add a measurement; the label values come in the order of the labels. `trace` is the span that it is from."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = [0] * (len(self.bounds) + 1) + [0.0]
        bucket = bisect_left(self.bounds, amount)
        series[bucket] += 1
        series[-1] += amount
        if trace is not None:
            self._traced[values, bucket] = amount, trace, time()

    def series(self) -> list[tuple[dict[str, str], list[float], float]]:
        """List for each series its labels, the counts of its buckets and the sum; any thread may ask."""
        found = [(values, numbers.copy()) for values, numbers in self._series.copy().items()]
        return [(dict(zip(self._labels, values, strict=True)), numbers[:-1], numbers[-1]) for values, numbers in found]

    def read(self) -> HistogramMetricFamily:
        """Return all series as Prometheus has them; any thread may ask."""
        name, labels = _underscored(self.name), list(map(_underscored, self._labels))
        family = HistogramMetricFamily(name, self._description, labels=labels, unit=self._unit)
        for values, numbers in self._series.copy().items():
            *counts, total = numbers.copy()
            family.add_metric(values, self._buckets(values, counts), total)
        return family

    def _buckets(self, values: tuple[str, ...], counts: list[float]) -> list[Bucket]:
        buckets: list[Bucket] = []
        for place, (end, count) in enumerate(zip(self._ends, accumulate(counts), strict=True)):
            traced = self._traced.get((values, place))
            buckets.append((end, count) if traced is None else (end, count, _exemplar(*traced)))
        return buckets


def _exemplar(amount: float, trace: SpanContext, moment: float) -> Exemplar:
    """Name a measurement's span by the labels that OpenTelemetry's rules give it."""
    ids = {"trace_id": format_trace_id(trace.trace_id), "span_id": format_span_id(trace.span_id)}
    return Exemplar(ids, amount, round(moment, 3))


def _underscored(name: str) -> str:
    """Write a dotted name as Prometheus does."""
    return name.replace(".", "_")
