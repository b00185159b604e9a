"""A caller's limits, and what a request was granted of them."""

import math
from typing import Annotated

from msgspec import Meta, Struct, structs

QuotaLimit = Annotated[int, Meta(ge=1)]


class Quota(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The limits of one caller; `None` is no limit."""

    requests_per_minute: QuotaLimit | None = None
    tokens_per_minute: QuotaLimit | None = None
    tokens_per_day: QuotaLimit | None = None
    concurrent: QuotaLimit | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing is limited."""
        return self is _OPEN or self == _OPEN

    def share(self, parts: int) -> "Quota":
        """Return one of `parts` equal parts, each limit at least 1."""
        limits = structs.asdict(self).items()
        return Quota(**{name: limit and max(limit // parts, 1) for name, limit in limits})


_OPEN = Quota()
_RATES = ("requests", "tokens")
_SAID = ("limit", "remaining", "reset")
RATE_HEADERS = tuple(f"x-ratelimit-{said}-{rate}" for said in _SAID for rate in _RATES)


class Remaining(Struct, frozen=True):
    """How one limit stands; `reset` is the seconds until all of it is there again."""

    limit: int
    remaining: int
    reset: float


class Grant(Struct, kw_only=True, eq=False):
    """What one request may use: `tokens` are reserved of the minute and `day_tokens` of the day that began at `day`."""

    id: str
    caller: str
    quota: Quota
    tokens: float = 0.0
    day_tokens: float = 0.0
    day: float = 0.0
    requests_level: Remaining | None = None
    tokens_level: Remaining | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The `x-ratelimit-*` headers."""
        return {
            f"x-ratelimit-{what}-{name}": value
            for name, level in zip(_RATES, (self.requests_level, self.tokens_level), strict=True)
            if level is not None
            for what, value in zip(_SAID, _told(level), strict=True)
        }


def _told(level: Remaining) -> tuple[str, str, str]:
    return str(level.limit), str(max(level.remaining, 0)), f"{math.ceil(level.reset * 1_000) / 1_000:g}s"
