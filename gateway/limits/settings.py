"""The settings of the limits."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.limits.limiter import Limiter
from gateway.limits.quota import Quota


class LimitsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[limits]`: how much each caller may use, and where that is counted."""

    default: Quota = Quota()
    store_url: str | None = None
    store_seconds: Annotated[float, Meta(gt=0, le=10)] = 0.05
    when_down: Literal["local", "refuse"] = "local"
    replicas: Annotated[int, Meta(ge=1)] = 1


def to_limiter(settings: LimitsSettings, lease_seconds: float) -> Limiter:
    """Make the limiter; in a shared store a request that is never settled counts for `lease_seconds`."""
    if not settings.store_url:
        return Limiter(None, when_down=settings.when_down, replicas=settings.replicas)
    from gateway.limits.redis_store import RedisLimitStore  # noqa: PLC0415 - redis is imported only where a store is shared

    store = RedisLimitStore(settings.store_url, seconds=settings.store_seconds, lease=lease_seconds)
    return Limiter(store, when_down=settings.when_down, replicas=settings.replicas)
