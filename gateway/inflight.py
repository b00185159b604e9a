"""Every request in the house, for its owner to look at and to end."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

from msgspec import Struct, field

from gateway.admission import Permit, QueuePosition
from gateway.auth import Caller, Scope
from gateway.cache import CachePolicy
from gateway.engine import EngineError, GenerateRequest, ModelCard
from gateway.flow.deadline import Deadline
from gateway.hosting.hosting import HostedEngine
from gateway.telemetry import GenerationTelemetry

Phase = Literal["queued", "prefill", "decode"]


class Cancelled(EngineError):
    """Somebody who may do so has ended the request."""

    code = "cancelled"


class InFlightRequest(Struct, eq=False, kw_only=True):
    """One request, from before it waits until it is answered; `wish` is what it lets the cache of answers do.

    `headers` are for the head of its answer, and complete when the first event is there. With `is_told`, where it
    stands in the line comes before its events.
    """

    request: GenerateRequest
    caller: Caller
    hosted: HostedEngine
    card: ModelCard
    permit: Permit
    deadline: Deadline
    cache_policy: CachePolicy = CachePolicy.ANY
    wants_queue_updates: bool = False
    telemetry: GenerationTelemetry | None = None
    headers: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def phase(self) -> Phase:
        """What it is at."""
        if self.telemetry is not None and self.telemetry.started is not None:
            return "decode"
        return "prefill" if self.permit.is_held else "queued"

    @property
    def position(self) -> QueuePosition | None:
        """Where it stands in the line."""
        return self.permit.position

    @property
    def seconds(self) -> float:
        """How long it has been here."""
        return time.monotonic() - self.began


class InFlight:
    """The requests that wait or run."""

    def __init__(self) -> None:
        # By themselves, in their order: an id that a client chose may be there twice.
        self._visits: dict[InFlightRequest, None] = {}

    @contextmanager
    def enter(self, visit: InFlightRequest) -> Generator[None, None, None]:
        """Count a request in while the block runs."""
        self._visits[visit] = None
        try:
            yield
        finally:
            del self._visits[visit]

    def seen_by(self, caller: Caller) -> list[InFlightRequest]:
        """List the requests that `caller` may know of, the oldest first: its own; an admin sees all."""
        return [visit for visit in self._visits if _may_see(caller, visit)]

    def cancel(self, request_id: str, caller: Caller) -> bool:
        """End a request that `caller` may know of, with all its answers; tell whether there is one."""
        found = [visit for visit in self.seen_by(caller) if _is_of(visit.request.id, request_id)]
        for visit in found:
            visit.deadline.abort(Cancelled("the request was cancelled"))
        return bool(found)


def _is_of(own: str, request_id: str) -> bool:
    """Tell whether an id is that of a request, or of one of its prompts (`ID.1`) or answers (`ID-1`)."""
    return own == request_id or own.startswith((f"{request_id}.", f"{request_id}-"))


def _may_see(caller: Caller, visit: InFlightRequest) -> bool:
    return caller.may(Scope.ADMIN) or caller.id == visit.caller.id
