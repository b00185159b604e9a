"""What a caller may use, and what was granted of it."""

import math
from typing import Annotated

from msgspec import Meta, Struct, structs

Count = Annotated[int, Meta(ge=1)]


class Quota(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The limits of one caller; `None` is no limit."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    tokens_per_day: Count | None = None
    concurrent: Count | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing is limited."""
        return self == Quota()

    def share(self, parts: int) -> "Quota":
        """Return one of `parts` equal parts, each limit at least 1."""
        limits = structs.asdict(self).items()
        return Quota(**{name: limit and max(limit // parts, 1) for name, limit in limits})


class Level(Struct, frozen=True):
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
    requests_level: Level | None = None
    tokens_level: Level | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The `x-ratelimit-*` headers."""
        return {
            f"x-ratelimit-{what}-{name}": value
            for name, level in (("requests", self.requests_level), ("tokens", self.tokens_level))
            if level is not None
            for what, value in _told(level).items()
        }


def _told(level: Level) -> dict[str, str]:
    return {
        "limit": str(level.limit),
        "remaining": str(max(level.remaining, 0)),
        "reset": f"{math.ceil(level.reset * 1_000) / 1_000:g}s",
    }
