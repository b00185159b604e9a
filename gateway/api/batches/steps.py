"""The steps of a batch's life, each from one record to the next; a step that is taken already changes nothing.

validating --begin--> in_progress --end--> finalizing --over--> completed, expired, or failed
    |                     |
    +-----cancel----------+-----> cancelling --end, over--> cancelled
    |
    +--fail--> failed
"""

from collections.abc import Sequence

from msgspec import structs
from ulid import ULID

from gateway.api.http.problems import Problem
from gateway.store import BatchFault, BatchRecord, BatchStatus


def begin(record: BatchRecord, total: int, model: str | None, now: int) -> BatchRecord:
    """Begin the lines of a batch: they are as they have to be."""
    if record.status != "validating":
        return record
    return structs.replace(record, status="in_progress", total=total, model=model, in_progress_at=now)


def fail(record: BatchRecord, faults: Sequence[BatchFault], now: int) -> BatchRecord:
    """End a batch whose lines are not as they have to be."""
    if record.status != "validating":
        return record
    return structs.replace(record, status="failed", errors=tuple(faults), failed_at=now)


def cancel(record: BatchRecord, now: int) -> BatchRecord:
    """Tell a batch to end; raise `Problem` for one that has ended otherwise, or is about to."""
    if record.status in ("cancelling", "cancelled"):
        return record
    if record.status not in ("validating", "in_progress"):
        what = f"this batch is {record.status}: it cannot be cancelled any more"
        raise Problem("invalid_value", what, param="batch_id")
    return structs.replace(record, status="cancelling", cancelling_at=now)


def end(record: BatchRecord, ending: BatchStatus, now: int, faults: Sequence[BatchFault] = ()) -> BatchRecord:
    """Say how a batch ends, and which files it writes; a line without a result is one that expired, or is left out."""
    if record.ending is not None or record.is_over:
        return record
    if record.status == "cancelling":
        ending = "cancelled"
    has_errors = record.failed > 0 or (ending == "expired" and record.completed + record.failed < record.total)
    return structs.replace(
        record,
        status="cancelling" if ending == "cancelled" else "finalizing",
        finalizing_at=None if ending == "cancelled" else now,
        ending=ending,
        errors=(*record.errors, *faults),
        output_file_id=f"file-{ULID()}" if record.completed else None,
        error_file_id=f"file-{ULID()}" if has_errors else None,
    )


def over(record: BatchRecord, now: int) -> BatchRecord:
    """End a batch whose files are there."""
    if record.ending is None or record.is_over:
        return record
    failed = record.total - record.completed if record.ending == "expired" else record.failed
    return structs.replace(record, status=record.ending, failed=failed, **{f"{record.ending}_at": now})
