"""Constraints that are made to cost much: what they may cost, and what an innocent answer of the same model takes."""

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct, field

from gateway.linux import resident_bytes
from tests.attack.shortages import back
from tests.attack.table import attack
from tests.attack.target import MIB, Target
from tests.attack.transport import typed
from tests.chaos.row import Row, at_most, none_of
from tests.support.hostile import NAMES, bomb
from tests.support.observe import eventually
from tests.support.processes import descendants, engines, is_alive

_BUDGET_SECONDS, _BUDGET_MIB = 0.5, 64
_SETTING = "LLM_GATEWAY__ENGINES__TINY__SETTINGS__COMPILE_"
_SETTINGS = {f"{_SETTING}SECONDS": str(_BUDGET_SECONDS), f"{_SETTING}MIB": str(_BUDGET_MIB)}
# To compile, to take over what was compiled, to draw by it, to check it, and what a busy machine makes of that.
_LONGEST = 6 * _BUDGET_SECONDS
# The process that forks, and one for each constraint that is compiled at a time.
_HELPERS = 3
_ENGINE_MIB = 300.0
# Of the time beside as many clients that ask for no shape.
_SLOWER = 1.5
_CLIENTS = 6
_FREE_ROUNDS = 6
_QUESTION = {"model": "tiny", "prompt": "Once upon a time", "max_new_tokens": 32, "temperature": 0, "ignore_eos": True}
_HOSTILE = {"model": "tiny", "prompt": "one two", "max_new_tokens": 12}


class Peaks(Struct):
    """The most that was seen at a time: processes beside the engine's, the MiB of each, and the engine's MiB."""

    count: int = 0
    engine: float = 0.0
    helpers: dict[int, float] = field(default_factory=dict)

    def look(self, engine: int) -> None:
        """Look at the processes as they are now."""
        pids = descendants(engine)
        self.count = max(self.count, len(pids))
        self.engine = max(self.engine, (resident_bytes(engine) or 0) / MIB)
        for pid in pids:
            self.helpers[pid] = max(self.helpers.get(pid, 0.0), (resident_bytes(pid) or 0) / MIB)


@attack(seconds=40.0, **_SETTINGS)
def hostile_constraints(target: Target) -> Iterator[Row]:
    """Ask for one hostile constraint after the other, then for many different ones from several clients at once."""
    eventually(lambda: _engine(target), 30)
    engine = _engine(target)
    idle = Peaks()
    idle.look(engine)
    free: list[float] = []
    with _neighbour(target, free):
        for _ in range(_FREE_ROUNDS):
            target.many(
                len(NAMES), lambda at: target.post("/v1/generate", _HOSTILE | {"prompt": f"one {at}"}), _CLIENTS
            )
    longest, slowest = max((_seconds(target, name), name) for name in NAMES)
    yield at_most(f"longest answer to a constraint alone: {slowest}", longest, _LONGEST, " s")
    answers: list[object] = []
    beside: list[float] = []
    with _watched(engine) as peaks, _neighbour(target, beside):
        while target.goes_on and len(answers) < 4 * len(NAMES):
            begun = len(answers)
            names = [NAMES[(begun + at) % len(NAMES)] for at in range(len(NAMES))]
            target.chance.shuffle(names)
            answers += target.many(
                len(names), lambda at, names=names, begun=begun: _hostile(target, names[at], begun + at), _CLIENTS
            )
    yield typed(answers)
    yield at_most(
        "the same model's neighbour: median time, of free company", _median(beside) / _median(free), _SLOWER, "x"
    )
    yield at_most("processes beside the engine's", peaks.count, _HELPERS)
    least = min(idle.helpers.values(), default=0.0)
    yield at_most("such a process's memory, more than idle", max(peaks.helpers.values()) - least, _BUDGET_MIB, " MiB")
    yield at_most("the engine's memory, more than before", peaks.engine - idle.engine, _ENGINE_MIB, " MiB")
    yield none_of("engines that died", int(_engine(target) != engine), 1)
    yield from _gone(target, [engine, *descendants(engine)])


def _gone(target: Target, pids: list[int]) -> Iterator[Row]:
    """Unload the model, see that none of its processes is left, and load it again."""
    target.post("/v1/models/tiny/unload", {})
    until = time.monotonic() + 5
    while any(map(is_alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    yield none_of("processes left after the model is unloaded", sum(map(is_alive, pids)), len(pids))
    target.post("/v1/models/tiny/load", {})
    yield back(target, "tiny")
    eventually(lambda: _engine(target), 30)


def _engine(target: Target) -> int:
    """Find the engine that has processes which compile; 0 while there is none."""
    return next((pid for pid in engines(target.main) if descendants(pid)), 0)


def _hostile(target: Target, name: str, number: int) -> object:
    return target.post("/v1/generate", _HOSTILE | bomb(name, number))


def _seconds(target: Target, name: str) -> float:
    began = time.monotonic()
    _hostile(target, name, 1_000)
    return time.monotonic() - began


def _ask(target: Target, number: int) -> float:
    began = time.monotonic()
    target.post("/v1/generate", _QUESTION | {"prompt": f"Once {number} upon a time"}, "neighbour")
    return time.monotonic() - began


def _median(seconds: list[float]) -> float:
    return statistics.median(seconds) if seconds else float("inf")


@contextmanager
def _neighbour(target: Target, seconds: list[float]) -> Iterator[None]:
    """Keep asking the model that is attacked, and note how long each answer takes."""
    with _repeated(lambda: seconds.append(_ask(target, len(seconds))), 0.05):
        yield


@contextmanager
def _watched(engine: int) -> Iterator[Peaks]:
    """Keep looking at the engine and at the processes beside it."""
    peaks = Peaks()
    with _repeated(lambda: peaks.look(engine), 0.05):
        yield peaks


@contextmanager
def _repeated(work, pause: float) -> Iterator[None]:
    over = threading.Event()

    def keep() -> None:
        while not over.wait(pause):
            work()

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
