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


class FileSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[files]`: where uploaded files and those of batches lie, how much of them there may be and for how long.

    Without a `folder` they lie beside the file of the store, and without that one in files that have no name and go
    with the worker: then there are 64 MiB of them at most. An upload may take `upload_seconds`.
    """

    folder: str | None = None
    max_file_bytes: Annotated[int, Meta(ge=1_024)] = 200 * 1024 * 1024
    max_bytes: Annotated[int, Meta(ge=0)] = 4 * 1024 * 1024 * 1024
    bytes_per_key: Annotated[int, Meta(ge=0)] = 1024 * 1024 * 1024
    per_key: Annotated[int, Meta(ge=0)] = 1_000
    ttl_seconds: Annotated[float, Meta(gt=0, le=315_360_000)] = 2_592_000.0
    upload_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 600.0


class BatchSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[batches]`: how many lines one may have, how many run at once, and how they give way to clients' requests.

    A key has `per_key` batches under way at most. Of one model `at_once` lines run at most. One begins when
    no request was on its device for `quiet_seconds`, and gives way to the next one, but for `beside` of them.
    """

    max_lines: Annotated[int, Meta(ge=1, le=1_000_000)] = 50_000
    per_key: Annotated[int, Meta(ge=0)] = 16
    at_once: Annotated[int, Meta(ge=1, le=1_024)] = 16
    quiet_seconds: Annotated[float, Meta(ge=0, le=3_600)] = 0.5
    beside: Annotated[int, Meta(ge=0, le=1_024)] = 0
