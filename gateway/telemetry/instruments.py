"""The two kinds of instrument: numbers that only count, and distributions.

Both are plain numbers that OpenTelemetry reads at a scrape: a request adds to a dozen of them, and each call of
the SDK's own instruments takes 5 to 10 µs, most of it to find the series of the labels again.
"""

from bisect import bisect_left
from collections.abc import Sequence

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics.export import AggregationTemporality, Histogram, HistogramDataPoint, Metric


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
    the last.
    """

    def __init__(
        self, name: str, description: str, bounds: Sequence[float], labels: tuple[str, ...], unit: str = "s"
    ) -> None:
        self.name = name
        self._description = description
        self.bounds = tuple(bounds)
        self._labels = labels
        self._unit = unit
        # For each series the counts of its buckets, and behind them the sum.
        self._series: dict[tuple[str, ...], list[float]] = {}

    @property
    def has_any(self) -> bool:
        """Whether anything was measured."""
        return bool(self._series)

    def record(self, amount: float, *values: str) -> None:
        """Add a measurement; the label values come in the order of the labels."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = [0] * (len(self.bounds) + 1) + [0.0]
        series[bisect_left(self.bounds, amount)] += 1
        series[-1] += amount

    def series(self) -> list[tuple[dict[str, str], list[float], float]]:
        """List for each series its labels, the counts of its buckets and the sum; any thread may ask."""
        found = [(values, numbers.copy()) for values, numbers in self._series.copy().items()]
        return [(dict(zip(self._labels, values, strict=True)), numbers[:-1], numbers[-1]) for values, numbers in found]

    def read(self, begun_ns: int, now_ns: int) -> Metric:
        """Return all series as OpenTelemetry's data model has them; the times are those of the first and this look."""
        series = {values: numbers.copy() for values, numbers in self._series.copy().items()}
        points = [self._point(values, numbers, begun_ns, now_ns) for values, numbers in series.items()]
        return Metric(self.name, self._description, self._unit, Histogram(points, AggregationTemporality.CUMULATIVE))

    def _point(self, values: tuple[str, ...], numbers: list[float], begun_ns: int, now_ns: int) -> HistogramDataPoint:
        *counts, total = numbers
        return HistogramDataPoint(
            attributes=dict(zip(self._labels, values, strict=True)),
            start_time_unix_nano=begun_ns,
            time_unix_nano=now_ns,
            count=int(sum(counts)),
            sum=total,
            bucket_counts=[int(count) for count in counts],
            explicit_bounds=self.bounds,
            min=0.0,  # not kept: the exposition has none
            max=0.0,
        )
