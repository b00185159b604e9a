"""The results of a run, level by level."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Self

from msgspec import Struct

from gateway.cli.bench.plan import LoadLevel
from gateway.cli.bench.sample import Sample


class Spread(Struct, frozen=True):
    """A quantity over many requests, in seconds."""

    mean: float
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self | None:
        """Sum up the values; `None` where there are none."""
        ordered = sorted(values)
        if not ordered:
            return None
        return cls(statistics.fmean(ordered), *(quantile(ordered, share) for share in (0.5, 0.9, 0.99)))


class LevelReport(Struct, frozen=True, kw_only=True):
    """The results of a level. Latencies and tokens are those of whole answers; a failed request counts as failed only.

    `seconds` reach from the first request to the last answer. `ttft` is the time to the first text, `tpot` the time per
    output token after it, `itl` the pause between two frames with text, `e2e` the whole; all from when a request was
    due. `delay` is how late the generator sent it, `client_cpu` the processor seconds that the generator took itself.
    """

    level: LoadLevel
    requests: int
    failed: int
    errors: dict[str, int]
    seconds: float
    peak: int
    prompt_tokens: int
    cached_tokens: int | None
    output_tokens: int
    uncounted: int
    inexact: int
    frames: int
    client_cpu: float
    interrupted: bool
    ttft: Spread | None
    tpot: Spread | None
    itl: Spread | None
    e2e: Spread | None
    delay: Spread | None

    @property
    def tokens_per_second(self) -> float:
        """Return the output tokens a second over all clients."""
        return self.output_tokens / self.seconds if self.seconds else 0.0

    @property
    def requests_per_second(self) -> float:
        """Return the whole answers a second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def cached_share(self) -> float | None:
        """Return the share of the prompts' tokens that the server had already; `None` where it does not say."""
        return None if self.cached_tokens is None else self.cached_tokens / max(1, self.prompt_tokens)

    @property
    def client_share(self) -> float:
        """Return how much of one core the generator took."""
        return self.client_cpu / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, object]:
        """Return all fields, and the rates and shares."""
        derived = {name: getattr(self, name) for name in _DERIVED}
        return {name: getattr(self, name) for name in self.__struct_fields__} | derived


_DERIVED = ("tokens_per_second", "requests_per_second", "cached_share", "client_share")


class Effort(Struct, frozen=True, kw_only=True):
    """The generator's own share of a level."""

    client_cpu: float
    peak: int
    interrupted: bool = False


def sum_up(level: LoadLevel, samples: Sequence[Sample], wanted_tokens: int, effort: Effort) -> LevelReport:
    """Sum up a level's samples."""
    whole = [sample for sample in samples if sample.error is None]
    counted = [sample for sample in whole if sample.output_tokens is not None]
    cached = [sample.cached_tokens for sample in whole if sample.cached_tokens is not None]
    begun, ended = min((s.due for s in samples), default=0.0), max((s.ended for s in samples), default=0.0)
    errors = Counter(sample.error for sample in samples if sample.error is not None)
    return LevelReport(
        level=level,
        requests=len(whole),
        failed=len(samples) - len(whole),
        errors=dict(errors.most_common()),
        seconds=ended - begun,
        peak=effort.peak,
        prompt_tokens=sum(sample.prompt_tokens or 0 for sample in whole),
        cached_tokens=sum(cached) if cached else None,
        output_tokens=sum(sample.output_tokens or 0 for sample in counted),
        uncounted=len(whole) - len(counted),
        inexact=sum(sample.output_tokens != wanted_tokens for sample in counted),
        frames=sum(sample.frames for sample in whole),
        client_cpu=effort.client_cpu,
        interrupted=effort.interrupted,
        ttft=Spread.of(sample.first - sample.due for sample in whole if sample.first is not None),
        tpot=Spread.of(filter(None, map(_token_time, counted))),
        itl=Spread.of(gap for sample in whole for gap in sample.gaps),
        e2e=Spread.of(sample.ended - sample.due for sample in whole),
        delay=Spread.of(sample.sent - sample.due for sample in samples),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Interpolate between the two nearest of the ordered values."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _token_time(sample: Sample) -> float | None:
    """Return the time of a token after the first."""
    if sample.first is None or sample.output_tokens is None or sample.output_tokens <= 1:
        return None
    return (sample.ended - sample.first) / (sample.output_tokens - 1)
