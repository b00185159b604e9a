"""Calls that were running when the engine's process died; one that was there twice, or hung it, is not run again."""

import hashlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from msgspec import Struct, structs

from gateway.engine import (
    EmbedRequest,
    EngineError,
    EngineRestarted,
    GenerateRequest,
    Quarantined,
    ScoreRequest,
    Unsendable,
    to_raw,
)

_STRIKES = 2
_LEFT = 64
_REFUSED = "the engine's process ended twice while it ran this request; it is not run again for now"
_HUNG = "the engine hung while it ran this request, which is not repeated; the engine was replaced"


class AskedQuestion(NamedTuple):
    """A question of the `Engine` interface: the method's name, and the arguments."""

    method: str
    arguments: tuple[object, ...]


class Death(NamedTuple):
    """How a process died: `is_hang` where it was killed since nothing moved any more.

    `stuck` are the numbers of the calls that were computed all that time; `None` where the process did not say.
    `arrived` are those that a process which hung had read at all; `None` where that is not known.
    """

    is_hang: bool = False
    stuck: frozenset[int] | None = None
    arrived: frozenset[int] | None = None


class RunningCall(Struct, eq=False):
    """A call that was handed to the process, where it has its `number`.

    On trial, it is a suspect that begins while no other suspect does. The `verdict` is the error that it ends with
    instead of being repeated.
    """

    call: GenerateRequest | AskedQuestion
    on_trial: bool = False
    has_started: bool = False
    number: int = 0
    verdict: EngineError | None = None


class Quarantine:
    """Remembers the last `most` calls for `seconds`, by a hash that is the same for every caller."""

    def __init__(self, most: int = 1000, seconds: float = 600.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.runs: list[RunningCall] = []
        # Calls that were given up: the process may compute them on.
        self._left: deque[tuple[int, bytes]] = deque(maxlen=_LEFT)
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._strikes: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def check(self, call: GenerateRequest | AskedQuestion) -> bool:
        """Tell whether it has one strike; raise `Quarantined` if it has two."""
        strikes = self._count(_mark(call)) if self._strikes else 0
        if strikes >= _STRIKES:
            raise Quarantined(_REFUSED)
        return strikes > 0

    def leave(self, run: RunningCall, *, is_given_up: bool) -> None:
        """Count a call as running no more; what had not started when it was given up may be computed on."""
        self.runs.remove(run)
        if is_given_up and not run.has_started:
            self._left.append((run.number, _mark(run.call)))

    def blame(self, places: int, death: Death = Death()) -> None:  # noqa: B008 - it never changes
        """Count a strike against each call that the process may have died of, and decide which are not repeated.

        Those are, of a process that hung and named calls that it computed all the while, these calls; else those on
        trial, or else all that ran. An engine runs no more than `places` generations at once: further ones that had not
        started were only waiting, and so were questions that a process did not name which does name calls, and calls
        that one which stood still had not even read.
        """
        stuck = death.stuck or frozenset()
        named = [run for run in self.runs if run.number in stuck]
        marks = {mark for number, mark in self._left if number in stuck}
        is_named = death.is_hang and bool(named or marks)
        blamed = named if is_named else self._tried(places, death)
        marks = {_mark(run.call) for run in blamed} | (marks if is_named else set())
        # A process that lived and computed one call all the while leaves no doubt.
        self._strike(marks, _STRIKES if is_named and len(marks) == 1 else 1)
        if death.is_hang:
            for run in blamed:
                is_over = self._count(_mark(run.call)) >= _STRIKES
                run.verdict = Quarantined(_HUNG) if is_over else EngineRestarted(_HUNG)
        self._left.clear()

    def clear(self, call: GenerateRequest | AskedQuestion) -> None:
        """Forget a call that was answered to its end."""
        if self._strikes:
            self._strikes.pop(_mark(call), None)

    def _tried(self, places: int, death: Death) -> list[RunningCall]:
        """List the calls on trial, or else all that may have run."""
        has_questions = death.stuck is None or not death.is_hang
        read = {run.number for run in self.runs} if death.arrived is None else death.arrived
        started = [run for run in self.runs if run.has_started]
        others = [run for run in self.runs if not run.has_started and run.number in read]
        generations = [run for run in others if isinstance(run.call, GenerateRequest)]
        begun = generations[: max(0, places - len(started))]
        if has_questions:
            begun += [run for run in others if isinstance(run.call, AskedQuestion)]
        return [run for run in begun if run.on_trial] or started + begun

    def _strike(self, marks: Iterable[bytes], strikes: int) -> None:
        for mark in marks:
            count = self._count(mark) + strikes
            self._strikes.pop(mark, None)
            self._strikes[mark] = (count, self._clock())
        while len(self._strikes) > self._most:
            self._strikes.popitem(last=False)

    def _count(self, mark: bytes) -> int:
        strikes, at = self._strikes.get(mark, (0, 0.0))
        return strikes if self._clock() - at < self._seconds else 0


def _mark(call: GenerateRequest | AskedQuestion) -> bytes:
    """Hash all that the engine's work depends on, and neither the caller nor the time."""
    if isinstance(call, AskedQuestion):
        asked: object = (call.method, tuple(map(_bare, call.arguments)))
    else:
        asked = structs.replace(call, id="", timeout=None, priority=0, trace=None, salt="")
    try:
        content = bytes(to_raw(asked))
    except Unsendable:  # no process ever gets it
        content = repr(asked).encode()
    return hashlib.sha256(content).digest()


def _bare(argument: object) -> object:
    if isinstance(argument, EmbedRequest | ScoreRequest):
        return structs.replace(argument, id="", timeout=None, trace=None)
    return argument
