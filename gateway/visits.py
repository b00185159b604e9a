"""Every request in the house, for its owner to look at and to end."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

from msgspec import Struct, field

from gateway.admission import Permit, Standing
from gateway.auth import Caller, Scope
from gateway.deadline import Deadline
from gateway.engine import EngineError, GenerateRequest, ModelCard
from gateway.hosting import Seat
from gateway.telemetry import Generation

Phase = Literal["queued", "prefill", "decode"]


class Cancelled(EngineError):
    """Somebody who may do so has ended the request."""

    code = "cancelled"


class Visit(Struct, eq=False, kw_only=True):
    """One request, from before it waits until it is answered.

    `headers` are for the head of its answer, and complete when the first event is there. With `is_told`, where it
    stands in the line comes before its events.
    """

    request: GenerateRequest
    caller: Caller
    seat: Seat
    card: ModelCard
    permit: Permit
    deadline: Deadline
    is_told: bool = False
    watch: Generation | None = None
    headers: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def phase(self) -> Phase:
        """What it is at."""
        if not self.permit.is_held:
            return "queued"
        return "prefill" if self.watch is None or self.watch.started is None else "decode"

    @property
    def standing(self) -> Standing | None:
        """Where it stands in the line."""
        return self.permit.standing

    @property
    def seconds(self) -> float:
        """How long it has been here."""
        return time.monotonic() - self.began


class Visits:
    """The requests that wait or run."""

    def __init__(self) -> None:
        self._visits: dict[str, Visit] = {}

    @contextmanager
    def enter(self, visit: Visit) -> Generator[None, None, None]:
        """Count a request in while the block runs."""
        self._visits[visit.request.id] = visit
        try:
            yield
        finally:
            del self._visits[visit.request.id]

    def seen_by(self, caller: Caller) -> list[Visit]:
        """List the requests that `caller` may know of, the oldest first: its own; an admin sees all."""
        return [visit for visit in self._visits.values() if _may_see(caller, visit)]

    def cancel(self, request_id: str, caller: Caller) -> bool:
        """End a request that `caller` may know of; tell whether there is one."""
        visit = self._visits.get(request_id)
        if visit is None or not _may_see(caller, visit):
            return False
        visit.deadline.cut(Cancelled("the request was cancelled"))
        return True


def _may_see(caller: Caller, visit: Visit) -> bool:
    return caller.may(Scope.ADMIN) or caller.id == visit.caller.id
