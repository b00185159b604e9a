"""One stored thing, and the errors of the store."""

from collections.abc import Mapping

from msgspec import Struct

from gateway.engine import EngineError

# What a row takes beside its texts, in bytes: its key in two indexes, its numbers.
_ROW_BYTES = 256


class StoreFileError(Exception):
    """The file of the store cannot be used; the message gives the reason."""


class StoreUnavailable(EngineError):
    """The store cannot be reached for now; the log has the reason."""

    code = "store_unavailable"


class Entry(Struct, frozen=True, kw_only=True):
    """One stored answer or conversation: `body` is its JSON, `input` that of what it answers, `events` how it came.

    Its `id` is unique among those of its `kind` and owner. `labels` are what entries are looked for by. `created` is
    in seconds since 1970.
    """

    kind: str
    id: str
    created: float
    body: bytes
    input: bytes = b""
    events: bytes = b""
    labels: Mapping[str, str] = {}

    @property
    def size(self) -> int:
        """The bytes that it counts."""
        texts = sum(len(name) + len(value) for name, value in self.labels.items())
        return _ROW_BYTES + len(self.body) + len(self.input) + len(self.events) + texts


class EntryPage(Struct, frozen=True):
    """Some entries of a list in its order, and whether there are more behind them."""

    entries: tuple[Entry, ...]
    has_more: bool
