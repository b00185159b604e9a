"""The two kinds of instrument: numbers that only count, and distributions.

A `Tally` is plain numbers that OpenTelemetry reads when somebody asks, so adding costs a dictionary's update, not the
five microseconds of the SDK's counter.
"""

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, Observation

_NO_CONTEXT = Context()


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
    """A histogram of seconds by label values, which come in the order of the labels."""

    def __init__(self, histogram: Histogram, labels: tuple[str, ...]) -> None:
        self._histogram = histogram
        self._labels = labels

    def record(self, seconds: float, *values: str) -> None:
        """Add a measurement."""
        self._histogram.record(seconds, dict(zip(self._labels, values, strict=True)), _NO_CONTEXT)
