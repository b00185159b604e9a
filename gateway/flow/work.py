"""What one generation makes an engine do: charged once, however many requests share its answer."""

from msgspec import Struct


class Work(Struct, eq=False):
    """`is_begun` once an engine reads the prompt; it is no longer, where the engine refused or lost it unread."""

    is_begun: bool = False
