"""Requests in flight: list and cancel them."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from typing import Literal

from msgspec import Struct, field, structs

from gateway.admission import Permit, QueuePosition, Standby, WaitLimits, prompt_bound, reading_cost
from gateway.auth import Caller, Scope
from gateway.cache import CachePolicy, Replay
from gateway.engine import Draining, EngineError, GenerateRequest, Usage
from gateway.flow.deadline import Deadline, Timeouts
from gateway.flow.fitting import Shorten
from gateway.flow.work import Work
from gateway.hosting.route import Target
from gateway.limits import Allowance, PromptAllowance
from gateway.telemetry import GenerationTelemetry

Phase = Literal["queued", "prefill", "decode"]


class Cancelled(EngineError):
    """The request was ended by its owner or an admin."""

    code = "cancelled"


class Options(Struct, frozen=True):
    """What a client asks of the gateway, not of the engine: time, the cache, and to be told its queue position.

    A prompt that is too long for the model goes on with what `shorten` leaves of it. Work that no client waits for says
    in `standby` how it gives way. One that is not `is_recorded` is run again, and no request of a client's.
    """

    timeouts: Timeouts = Timeouts()
    cache_policy: CachePolicy = CachePolicy.ANY
    wants_queue_updates: bool = False
    shorten: Shorten | None = None
    standby: Standby | None = None
    is_recorded: bool = True


class Progress(Struct, eq=False):
    """How far the answer to a request is: the permit under which it is made, and what it made the engine do.

    A request that shares the answer of another has no permit. What a shared answer made the engine do is the cache's.
    """

    permit: Permit | None = None
    work: Work = field(default_factory=Work)


class InFlightRequest(Struct, frozen=True, eq=False, kw_only=True):
    """One request, from before it waits until it is answered: its terms, and the objects that keep its state.

    `cost` bounds its tokens, prompt and answer. `allowance` is what its caller's limits leave it. `headers` are for
    the head of its answer, and complete when the first event is there.
    """

    request: GenerateRequest
    caller: Caller
    target: Target
    cost: int
    deadline: Deadline
    wait_limits: WaitLimits
    options: Options
    telemetry: GenerationTelemetry
    allowance: Allowance | PromptAllowance
    progress: Progress = field(default_factory=Progress)
    headers: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def phase(self) -> Phase:
        """Whether it waits, or which part of its answer is computed."""
        if self.telemetry.started is not None:
            return "decode"
        permit = self.progress.permit
        return "prefill" if permit is not None and permit.is_held else "queued"

    @property
    def position(self) -> QueuePosition | None:
        """Its position in the queue; `None` when it does not wait."""
        permit = self.progress.permit
        return None if permit is None else permit.position

    @property
    def seconds(self) -> float:
        """Its age in seconds."""
        return time.monotonic() - self.began

    def shorten_at(self, target: Target) -> Shorten | None:
        """Return what makes the prompt shorter where it is too long for a target, unless the next one has more room."""
        route = self.target.route
        if self.options.shorten is not None and route is not None:
            following = route.targets[route.targets.index(target) + 1 :][:1]
            if any(other.card.context_window > target.card.context_window for other in following):
                return None
        return self.options.shorten


class InFlight:
    """The requests that wait or run."""

    def __init__(self) -> None:
        self._empty = asyncio.Event()
        self._empty.set()
        # Keyed by themselves, in their order: an id that a client chose may be there twice.
        self._entries: dict[InFlightRequest, None] = {}

    @contextmanager
    def enter(self, entry: InFlightRequest) -> Generator[None, None, None]:
        """Count a request in while the block runs."""
        self._entries[entry] = None
        self._empty.clear()
        try:
            yield
        finally:
            del self._entries[entry]
            if not self._entries:
                self._empty.set()

    async def finish(self, seconds: float) -> None:
        """Return when the last request has ended; what still waits or runs after `seconds` is ended."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            for entry in list(self._entries):
                entry.deadline.abort(Draining("the service went down before the answer was finished"))
            await self._empty.wait()

    def seen_by(self, caller: Caller) -> list[InFlightRequest]:
        """List the requests that `caller` may know of, the oldest first: its own; an admin sees all."""
        return [entry for entry in self._entries if _may_see(caller, entry)]

    def cancel(self, request_id: str, caller: Caller) -> bool:
        """End a request that `caller` may know of, with all its answers; tell whether there is one."""
        found = [entry for entry in self.seen_by(caller) if is_of(entry.request.id, request_id)]
        for entry in found:
            entry.deadline.abort(Cancelled("the request was cancelled"))
        return bool(found)


def is_of(own: str, request_id: str) -> bool:
    """Tell whether an id is that of a request, or of one of its prompts (`ID.1`) or answers (`ID-1`)."""
    return own == request_id or own.startswith((f"{request_id}.", f"{request_id}-"))


def _may_see(caller: Caller, entry: InFlightRequest) -> bool:
    return caller.may(Scope.ADMIN) or caller.id == entry.caller.id


def account_of(caller: Caller, standby: Standby | None) -> str:
    """Name the account whose limits a request counts against: work that stands by has one of its own, as large."""
    return caller.id if standby is None else f"{caller.id}/batches"


def made_by(entry: InFlightRequest, answer: AsyncGenerator[object, None]) -> Usage | None:
    """Count the tokens that a request pays for, once it has left its answer; `None` where there is nothing to pay.

    A prompt whose length was not told is as long as was reserved for it, from the moment that an engine has it.
    """
    usage, work = entry.telemetry.usage, entry.progress.work
    if isinstance(answer, Replay):
        if answer.owed is None:
            return None
        usage, work = answer.owed.usage, answer.owed.work
    if not usage.prompt_tokens and not work.is_begun:
        return None
    prompt = usage.prompt_tokens or min(prompt_bound(entry.request.prompt), entry.cost)
    if entry.request.truncate is not None:  # what was cut off was read, too
        prompt = max(prompt, reading_cost(entry.request.prompt))
    return usage if prompt == usage.prompt_tokens else structs.replace(usage, prompt_tokens=prompt)
