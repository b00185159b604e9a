"""Which models are in memory: decides what is loaded, what makes room, and what waits. It has no clock and no tasks.

    unloaded ──ask, room──> loading ──loaded──> loaded ──room, idle, by hand──> leaving ──left──> unloaded
                               └──failed──> unloaded, and left alone for a pause

`Loads` tells it what happened, and carries out what `step` says. Loads begin in the order in which they were asked for.
What makes room is the least recently used first, and never a model that answers, loads or is pinned. Where all that is
left is busy, the least recently used ones take nothing new until they can go, once they have served for as long as they
took to load: so none waits for ever, and at most half of the time goes into loads.
"""

import math
from collections.abc import Callable, Iterable, Iterator

from gateway.hosting.resident import Bounds, Claim, Decision, Resident, Stage, Verdict, why_never, why_not_yet

# Seconds that a model is left alone after a load that failed: doubled each time, up to the longest.
_PAUSE = 5.0
_LONGEST_PAUSE = 300.0
_DOUBLINGS = 8


class Residency:
    """Decides what is in memory, within the bounds, as requests come and go."""

    def __init__(self, bounds: Bounds = Bounds()) -> None:  # noqa: B008 - it never changes
        self.bounds = bounds
        self.residents: list[Resident] = []
        self._queue: list[Resident] = []

    def forget(self, resident: Resident) -> None:
        """Know no more of a model that has left."""
        self.residents = [each for each in self.residents if each is not resident]
        self._unqueue(resident)

    def take(self, resident: Resident) -> bool:
        """Have a loaded model answer one more request; return whether it does."""
        if resident.stage is not Stage.LOADED or resident.is_closing:
            return False
        resident.leases += 1
        return True

    def give(self, resident: Resident, now: float) -> None:
        """End the lease of a request."""
        resident.leases -= 1
        resident.last_used = now

    def claim(self, resident: Resident) -> Claim:
        """Have one more request wait for a model; `wish` for it, too, unless it loads."""
        claim = Claim(resident)
        resident.claims.append(claim)
        return claim

    def end(self, claim: Claim, now: float) -> None:
        """End a claim; a load that has not begun is not needed once none waits for it."""
        resident = claim.resident
        if claim.is_held:
            self.give(resident, now)
        elif claim in resident.claims:
            resident.claims.remove(claim)
            if not resident.claims:
                self._unqueue(resident)

    def refuse(self, resident: Resident, why: str = "") -> Decision:
        """Let nothing wait for a model any longer."""
        self._unqueue(resident)
        refused = Decision(Verdict.REFUSE, resident, tuple(resident.claims), why)
        resident.claims.clear()
        return refused

    def wish(self, resident: Resident) -> None:
        """Have a model loaded as soon as there is room, whether or not a request waits for it."""
        is_here = resident.stage is Stage.LOADING or (resident.stage is Stage.LOADED and not resident.claims)
        if not is_here and resident not in self._queue:
            self._queue.append(resident)

    def begin(self, resident: Resident, now: float) -> None:
        """Begin a load, whatever the bounds say."""
        self._unqueue(resident)
        resident.stage, resident.began_at = Stage.LOADING, now

    def loaded(self, resident: Resident, now: float, size: int | None = None) -> None:
        """Note the end of a load; it takes `size` bytes, as far as is known, and not less than was estimated."""
        resident.stage, resident.loaded_at, resident.last_used, resident.failures = Stage.LOADED, now, now, 0
        if size is not None:
            resident.size = max(size, resident.size or 0)

    def failed(self, resident: Resident, now: float, why: str) -> Decision:
        """Note that a load failed: only by hand is it tried again before a pause is over."""
        resident.stage = Stage.UNLOADED
        resident.retry_at = now + min(_PAUSE * 2.0 ** min(resident.failures, _DOUBLINGS), _LONGEST_PAUSE)
        resident.failures += 1
        return self.refuse(resident, why)

    def leave(self, resident: Resident) -> None:
        """Begin to unload a model by hand; it may answer to the end what it has begun."""
        resident.stage = Stage.LEAVING

    def left(self, resident: Resident) -> None:
        """Note that a model takes no more memory; requests that wait for it have it loaded again."""
        resident.stage, resident.is_closing = Stage.UNLOADED, False
        if resident.claims:
            self.wish(resident)

    def misfit(self, resident: Resident) -> str:
        """Say why a model can never be loaded beside those that stay; empty where it can."""
        return why_never(resident, [each for each in self._present() if each is not resident], self.bounds)

    def waits_for(self, resident: Resident) -> str:
        """Say what a model that is to be loaded waits for; empty where nothing is in its way."""
        if resident not in self._queue:
            return ""
        return why_not_yet(resident, [each for each in self._present() if each is not resident])

    def fits(self, resident: Resident, without: Iterable[Resident] = ()) -> bool:
        """Tell whether there is room for a model, once those of `without` are gone."""
        gone = {id(each) for each in without}
        held = [each for each in self._present() if id(each) not in gone and each is not resident]
        return self.bounds.allow(sum(each.size or 0 for each in (*held, resident)), len(held) + 1)

    def step(self, now: float) -> list[Decision]:
        """Decide on the next moves; they count as begun."""
        decisions = [self._admit(each) for each in self.residents if each not in self._queue and _is_due(each)]
        for each in self.residents:
            each.is_closing = False
        decisions += self._serve(now)
        decisions += [self._admit(each) for each in self.residents if _is_due(each) and not each.is_closing]
        decisions += self._shrink()
        for each in self.residents:
            if self._expires(each) <= now:
                each.stage = Stage.LEAVING
                decisions.append(Decision(Verdict.EXPIRE, each))
        return decisions

    def next_look(self, now: float) -> float | None:
        """Return the next moment at which `step` may have something to do though nothing happens; `None` for none."""
        moments = [self._expires(each) for each in self.residents]
        if self._queue:
            moments += [each.turn_ends for each in self._movable(lambda each: each.leases > 0)]
        return min((moment for moment in moments if now < moment < math.inf), default=None)

    def _serve(self, now: float) -> Iterator[Decision]:
        """Begin the loads that were asked for, in their order, until one has to wait for room; refuse what never fits.

        One that still leaves comes back once it has left.
        """
        is_full = False
        for resident in [each for each in self._queue if each.stage is Stage.UNLOADED]:
            if why := self.misfit(resident):
                yield self.refuse(resident, why)
            elif not is_full and self.fits(resident):
                self.begin(resident, now)
                yield Decision(Verdict.LOAD, resident)
            elif not is_full:
                is_full = True
                yield from self._make_room(resident, now)

    def _make_room(self, resident: Resident, now: float) -> Iterator[Decision]:
        """Unload what is idle where that makes room; else have busy models make way, whose turn is over."""
        leaving = [each for each in self._present() if each.stage is Stage.LEAVING]
        idle = self._movable(lambda each: not each.leases)
        victims = self._fewest(resident, leaving, idle)
        if victims is not None:
            for each in victims:
                each.stage = Stage.LEAVING
                yield Decision(Verdict.EVICT, each)
            return
        busy = self._movable(lambda each: each.leases > 0 and each.turn_ends <= now)
        for each in self._fewest(resident, [*leaving, *idle], busy) or ():
            each.is_closing = True

    def _fewest(self, resident: Resident, gone: list[Resident], candidates: list[Resident]) -> list[Resident] | None:
        """Choose of the candidates, in their order, those whose leaving makes room; `None` where all are too few."""
        chosen: list[Resident] = []
        while not self.fits(resident, [*gone, *chosen]):
            if len(chosen) == len(candidates):
                return None
            chosen.append(candidates[len(chosen)])
        for each in chosen[-2::-1]:  # a large one behind them may have made room for all
            rest = [other for other in chosen if other is not each]
            chosen = rest if self.fits(resident, [*gone, *rest]) else chosen
        return chosen

    def _shrink(self) -> Iterator[Decision]:
        """Unload idle models while more is in memory than may be: a bound was lowered, or an estimate too low."""
        for each in self._movable(lambda each: not each.leases):
            staying = [other for other in self._present() if other.stage is not Stage.LEAVING]
            if self.bounds.allow(sum(other.size or 0 for other in staying), len(staying)):
                return
            each.stage = Stage.LEAVING
            yield Decision(Verdict.EVICT, each)

    def _admit(self, resident: Resident) -> Decision:
        self._unqueue(resident)
        admitted = Decision(Verdict.ADMIT, resident, tuple(resident.claims))
        for claim in admitted.claims:
            claim.is_held = True
        resident.leases += len(admitted.claims)
        resident.claims.clear()
        return admitted

    def _present(self) -> list[Resident]:
        return [each for each in self.residents if each.stage is not Stage.UNLOADED]

    def _movable(self, which: Callable[[Resident], bool]) -> list[Resident]:
        """List the loaded models that may be unloaded, the least recently used first."""
        found = [each for each in self.residents if each.stage is Stage.LOADED and not each.is_pinned and which(each)]
        return sorted(found, key=lambda each: each.last_used)

    def _expires(self, resident: Resident) -> float:
        """Return the moment at which a model has been idle for too long."""
        is_idle = resident.stage is Stage.LOADED and not resident.is_pinned and not resident.leases
        if resident.idle_seconds is None or not is_idle or resident in self._queue:
            return math.inf
        return resident.last_used + resident.idle_seconds

    def _unqueue(self, resident: Resident) -> None:
        self._queue = [each for each in self._queue if each is not resident]


def _is_due(resident: Resident) -> bool:
    return resident.stage is Stage.LOADED and bool(resident.claims)
