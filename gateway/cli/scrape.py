"""The metrics of a gateway at two moments, and what happened between them."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import pairwise

from msgspec import Struct, field
from prometheus_client.parser import text_string_to_metric_families

_FIRST_TOKEN = "gen_ai_server_time_to_first_token_seconds_bucket"
_REQUESTS = "llm_gateway_requests_total"
_TOKENS = "llm_gateway_tokens_generated_total"
_SERVER_ERROR, _CLIENT_ERROR = 500, 400


class Rates(Struct, frozen=True):
    """Rates a second between two scrapes, and the seconds to the first token of half and of 95 % of the answers.

    A time is `None` where no answer began.
    """

    requests: float
    refused: float
    failed: float
    tokens: float
    first_token_p50: float | None
    first_token_p95: float | None


class Scrape(Struct):
    """The samples of one scrape; `moment` is of the monotonic clock, in seconds."""

    moment: float = field(default_factory=time.monotonic)
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> "Scrape":
        """Read Prometheus' text format. Raise `ValueError`."""
        samples = defaultdict[str, list[tuple[Mapping[str, str], float]]](list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples[sample.name].append((sample.labels, sample.value))
        return cls(samples=dict(samples))

    def total(self, name: str, is_meant: Callable[[Mapping[str, str]], bool] = lambda _: True) -> float:
        """Add up the samples of a metric."""
        return sum(value for labels, value in self.samples.get(name, ()) if is_meant(labels))

    def by(self, label: str, name: str) -> dict[str, float]:
        """Return the samples of a metric by one of its labels."""
        return {labels[label]: value for labels, value in self.samples.get(name, ())}

    def since(self, earlier: "Scrape") -> Rates:
        """Return what happened since an earlier scrape."""
        seconds = max(self.moment - earlier.moment, 1e-3)

        def rate(name: str, is_meant: Callable[[Mapping[str, str]], bool] = lambda _: True) -> float:
            return round(_growth(earlier.total(name, is_meant), self.total(name, is_meant)) / seconds, 3)

        buckets = self._growth_of_buckets(earlier)
        return Rates(
            requests=rate(_REQUESTS),
            refused=rate(_REQUESTS, lambda labels: _CLIENT_ERROR <= int(labels["status"]) < _SERVER_ERROR),
            failed=rate(_REQUESTS, lambda labels: int(labels["status"]) >= _SERVER_ERROR),
            tokens=rate(_TOKENS),
            first_token_p50=quantile(0.5, buckets),
            first_token_p95=quantile(0.95, buckets),
        )

    def _buckets(self) -> dict[float, float]:
        sums = defaultdict[float, float](float)
        for labels, value in self.samples.get(_FIRST_TOKEN, ()):
            sums[float(labels["le"])] += value
        return sums

    def _growth_of_buckets(self, earlier: "Scrape") -> dict[float, float]:
        before = earlier._buckets()  # noqa: SLF001 - of its own class
        return {bound: _growth(before.get(bound, 0.0), value) for bound, value in sorted(self._buckets().items())}


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """Return the value that a share of a cumulative histogram is below, as Prometheus interpolates it.

    `None` for an empty one.
    """
    if not buckets or not (count := max(buckets.values())):
        return None
    wanted = share * count
    for (low, under), (high, upto) in pairwise([(0.0, 0.0), *sorted(buckets.items())]):
        if upto >= wanted:
            if high == float("inf"):
                return low
            return low + (high - low) * (wanted - under) / (upto - under)
    return None


def _growth(before: float, after: float) -> float:
    """Return how much a count grew; one that fell began anew."""
    return after - before if after >= before else after
