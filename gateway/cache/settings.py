"""The settings of the answer cache."""

from typing import Annotated

from msgspec import Meta, Struct


class CacheSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[cache]`: how much is kept and for how long, and the server that replicas share it in.

    `max_bytes` bounds the memory of this process; a shared server has a bound of its own. 0 keeps nothing.
    """

    enabled: bool = True
    max_bytes: Annotated[int, Meta(ge=0)] = 64 * 1024 * 1024
    ttl_seconds: Annotated[float, Meta(gt=0, le=2_592_000)] = 3_600.0
    store_url: str | None = None
    store_seconds: Annotated[float, Meta(gt=0, le=10)] = 0.05
