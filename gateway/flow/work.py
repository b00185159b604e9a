"""What one generation makes an engine do: charged once, however many requests share its answer."""

from msgspec import Struct


class Work(Struct, eq=False):
    """`is_begun` once an engine reads the prompt; it is no longer, where the engine refused or lost it unread.

    `is_another` where another model than the one that was chosen makes the answer, which is then not kept as its own.
    `trace` is the W3C traceparent of the request that it is done for, if there is one.
    """

    is_begun: bool = False
    is_another: bool = False
    trace: str | None = None
