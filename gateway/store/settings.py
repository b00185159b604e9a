"""The settings of the store."""

from typing import Annotated

from msgspec import Meta, Struct


class StoreSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[store]`: where stored answers and conversations are, how much of them is kept and for how long.

    Without a `file` they are in memory, and gone with the worker. `max_bytes` of 0 stores nothing. `background`
    answers are made at once for clients that do not wait for them, `background_per_key` of them for one key.
    """

    file: str | None = None
    max_bytes: Annotated[int, Meta(ge=0)] = 64 * 1024 * 1024
    ttl_seconds: Annotated[float, Meta(gt=0, le=315_360_000)] = 2_592_000.0
    background: Annotated[int, Meta(ge=0)] = 32
    background_per_key: Annotated[int, Meta(ge=0)] = 16
