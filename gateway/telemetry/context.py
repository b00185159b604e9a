"""The record of the HTTP request that the running code belongs to.

Context variables, so that a generation deep in the engine's stream reaches its request without being handed it.
A task started by the request inherits them; the record itself is shared, so what the task writes is seen.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from opentelemetry.trace import INVALID_SPAN, Span, format_trace_id

Outcome = Literal["ok", "refused", "error", "aborted", "client_closed"]

request_id: ContextVar[str] = ContextVar("request_id", default="")


@dataclass(slots=True)
class RequestRecord:
    """The facts of one request, written as they become known. Times are in seconds.

    `model` and `code` come from closed sets (cards, error codes): they become labels. `outcome` is worked out from
    the answer unless it is set; `key` is the id of the caller's key. A failure that `is_expected` is no news, as that
    of a probe while models load.
    """

    span: Span = INVALID_SPAN
    model: str = ""
    code: str = ""
    key: str = ""
    is_waiting: bool = False
    is_expected: bool = False
    outcome: Outcome | None = None
    queue: float | None = None
    ttft: float | None = None
    prompt_tokens: int = 0
    tokens: int = 0
    finish_reason: str = ""
    left: list[Callable[[], None]] = field(default_factory=list)

    def close(self) -> None:
        """Run the callbacks deferred until the response is sent, and let go of what they hold."""
        left, self.left = self.left, []
        for work in left:
            work()

    @property
    def trace_id(self) -> str:
        """The trace's id in hex; empty when there is no trace."""
        context = self.span.get_span_context()
        return format_trace_id(context.trace_id) if context.is_valid else ""


_record: ContextVar[RequestRecord | None] = ContextVar("request_record", default=None)


def open_record(span: Span) -> RequestRecord:
    """Begin the record of a request; it belongs to the running task and those that it starts."""
    record = RequestRecord(span)
    _record.set(record)
    return record


def current_record() -> RequestRecord:
    """Return the running request's record; outside any request, an empty one."""
    return _record.get() or RequestRecord()


def afterwards(work: Callable[[], None]) -> None:
    """Do `work` when the running request's answer is on its way, so that its client need not wait for it."""
    record = _record.get()
    if record is None:
        work()
    else:
        record.left.append(work)
