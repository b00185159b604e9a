"""Measures servers that are up together: level by level, and in each of them one server after the other."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

from msgspec import Struct, structs

from tests.load.peers import servers
from tests.load.peers.report import Finding
from tests.load.peers.samples import Load, measure
from tests.load.peers.servers import RunningServer
from tests.load.peers.table import Rival

T = TypeVar("T")


class Entrant(Struct):
    """A server that is up, what ends it, and what was found of it."""

    running: RunningServer
    ending: ExitStack
    found: Finding


class Rounds(Struct):
    """What each server is asked, `runs` times: prompts by the name of their set, and how much of them.

    `start` starts a server, `rate` measures what the machine itself does in a second, and `say` hears of progress.
    """

    sets: dict[str, list[str]]
    load: Load
    runs: int
    start: Callable[[Rival], AbstractContextManager[RunningServer]]
    rate: Callable[[], float]
    say: Callable[[str], None]

    def together(self, rivals: Sequence[Rival]) -> list[Finding]:
        """Have these servers up at once, and measure each level of all before the next begins."""
        return self._measured(rivals, range(self.runs))

    def one_by_one(self, rivals: Sequence[Rival]) -> list[Finding]:
        """Have one of these servers up at a time, anew for each run."""
        turns = range(self.runs)
        return [found for turn in turns for rival in _order(rivals, turn) for found in self._measured([rival], [turn])]

    def _measured(self, rivals: Sequence[Rival], turns: Sequence[int]) -> list[Finding]:
        findings = [Finding(rival) for rival in rivals]
        with ExitStack() as all_ends:
            up = [entrant for found in findings if (entrant := self._started(found, all_ends))]
            for prompts in self.sets:
                for clients in self.load.clients:
                    self._level(up, prompts, clients, turns)
            for each in up:
                each.found.used = servers.resident(each.running.pid)
        return findings

    def _started(self, found: Finding, all_ends: ExitStack) -> Entrant | None:
        """Start a server; the others that are up are idle meanwhile."""
        ending = all_ends.enter_context(ExitStack())
        self.say(f"{found.rival.name}: starting")
        begun = time.monotonic()
        try:
            running = ending.enter_context(self.start(found.rival))
        except Exception as error:  # noqa: BLE001 - what stops one server does not stop the others
            self._lose(found, error)
            return None
        found.start, found.resident = time.monotonic() - begun, servers.resident(running.pid)
        self.say(f"{found.rival.name}: ready after {found.start:.1f} s, {found.resident / 2**20:.0f} MiB")
        return Entrant(running, ending, found)

    def _level(self, up: list[Entrant], prompts: str, clients: int, turns: Sequence[int]) -> None:
        """Measure each server at one level, back and forth, and the machine itself between any two."""
        before = self.rate()
        for turn in turns:
            asked = self._prompts(prompts, clients, turn)
            for each in _order([each for each in up if clients <= each.found.rival.most], turn):
                try:
                    try:
                        level = asyncio.run(measure(each.running.server, asked, clients, self.load))
                    finally:
                        each.running.check()  # why it ended says more than that it cannot be reached
                except Exception as error:  # noqa: BLE001 - as above
                    up.remove(each)
                    self._lose(each.found, error)
                    each.ending.close()
                    before = self.rate()
                    continue
                after = self.rate()
                each.found.levels.setdefault(prompts, []).append(structs.replace(level, machine=(before, after)))
                self.say(
                    f"{each.found.rival.name}: {level.speed:.0f} tokens/s with {prompts} prompts at {clients},"
                    f" machine {before / 1e9:.0f} and {after / 1e9:.0f} GFLOP/s"
                )
                before = after

    def _prompts(self, name: str, clients: int, turn: int) -> list[str]:
        """Return the prompts of one level in one run; no two share any, for a server may remember what it has read."""
        at = turn * self.load.prompts()
        for earlier in self.load.clients[: self.load.clients.index(clients)]:
            at += self.load.requests(earlier) + 1
        return self.sets[name][at : at + self.load.requests(clients) + 1]

    def _lose(self, found: Finding, error: Exception) -> None:
        said = str(error).strip()
        found.reason = said.splitlines()[0] if said else repr(error)
        self.say(f"{found.rival.name}: {found.reason}")


def _order(each: Sequence[T], turn: int) -> Sequence[T]:
    """Go back and forth, so that a machine which becomes slower is slower for all."""
    return each if turn % 2 == 0 else each[::-1]
