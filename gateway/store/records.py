"""The records of a file and of a batch, beside their bytes and results."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

FilePurpose = Literal["batch", "batch_output"]
BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
UNFINISHED: frozenset[BatchStatus] = frozenset({"validating", "in_progress", "finalizing", "cancelling"})


class FileRecord(Struct, frozen=True, kw_only=True):
    """A file of one owner; times are in seconds since 1970, and one without `expires_at` stays until it is deleted."""

    id: str
    purpose: FilePurpose
    filename: str
    bytes: int
    created_at: int
    expires_at: int | None = None


class BatchFault(Struct, frozen=True):
    """Why a batch was not begun, or ended early: `line` is counted from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class TokenSums(Struct, frozen=True):
    """The tokens of all answers of a batch together."""

    read: int = 0
    cached: int = 0
    written: int = 0
    reasoned: int = 0

    def plus(self, other: "TokenSums") -> "TokenSums":
        """Add the tokens of one more answer."""
        return TokenSums(
            self.read + other.read,
            self.cached + other.cached,
            self.written + other.written,
            self.reasoned + other.reasoned,
        )


class BatchRecord(Struct, frozen=True, kw_only=True):
    """A batch of one owner, and how far it is; times are in seconds since 1970.

    `ending` is the status that it will have once its files are written, which have the ids `output_file_id` and
    `error_file_id` from then on; `keep_seconds` says for how long.
    """

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    status: BatchStatus = "validating"
    keep_seconds: int | None = None
    metadata: Mapping[str, str] | None = None
    model: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    tokens: TokenSums = TokenSums()
    errors: tuple[BatchFault, ...] = ()
    ending: BatchStatus | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status not in UNFINISHED


class LineResult(Struct, frozen=True, kw_only=True):
    """The result of one line of a batch: as it is written into a file, and the tokens of its answer."""

    number: int
    is_error: bool
    text: bytes
    tokens: TokenSums = TokenSums()
