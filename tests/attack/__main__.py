"""Run all attacks, or those named, and print the table; exit 1 where a promise does not hold.

`--seed` repeats a run's random choices; `--seconds` bounds it, and what there is no more time for is named.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from rich.console import Console
from rich.table import Table

from tests.attack import constraints, edges, models, questions, records, search, shortages, strangers, transport
from tests.attack.table import ATTACKS, Attack
from tests.attack.target import Target, target
from tests.attack.verdict import AGAIN, LEFT, calm, leftovers, verdicts
from tests.chaos.row import Row

_MODULES = (transport, questions, strangers, records, constraints, edges, shortages, models, search)
_SECONDS = 580.0
# As long as the neighbour is watched alone before each attack, at least during it, and after an interruption.
_ALONE_SECONDS = 1.5


class Run:
    """One run: a service that the attacks share, or one of their own, and the rows so far."""

    def __init__(self, seed: int, seconds: float) -> None:
        self._seed = seed
        self._ends = time.monotonic() + seconds
        self.rows: list[tuple[str, Row]] = []
        # Of all moments without an attack so far: those of one second may be twice as long as those of another.
        self._alone: list[float] = []
        self._stack = ExitStack()
        self._shared: Target | None = None

    def attack(self, name: str, attack: Attack) -> None:
        """Run one attack with the time that is left, and note its rows."""
        if time.monotonic() + attack.seconds > self._ends:
            self.rows.append((name, Row("not run: no time is left", "", "", holds=True)))
            return
        try:
            found = self._target(attack)
            before = found.holdings()
            self._alone += calm(found, _ALONE_SECONDS)[1]
            self._note(name, [*_run(found, attack, self._ends, self._alone), *leftovers(found, before)])
        except Exception as error:
            self._note(name, [Row(f"{type(error).__name__}: {error}"[:300], "", "", holds=False)])
            self.close()
            return
        failed = [row.what for where, row in self.rows if where == name and not row.holds]
        is_left = any(what in LEFT or what.endswith(AGAIN) for what in failed)
        if attack.settings or is_left:
            self.close()

    def close(self) -> None:
        """End the service; the next attack starts another."""
        self._stack.close()
        self._shared = None

    def _target(self, attack: Attack) -> Target:
        if attack.settings or self._shared is None:
            self.close()
            self._shared = self._stack.enter_context(target(random.Random(self._seed), **attack.settings))  # noqa: S311 - no secret
            rows, alone = calm(self._shared)
            self._note("-", rows)
            self._alone += alone
        self._shared.chance.seed(self._seed)
        return self._shared

    def _note(self, name: str, rows: Iterable[Row]) -> None:
        for row in rows:
            self.rows.append((name, row))
            verdict = "ok" if row.holds else "FAILED"
            print(f"{verdict:6} {name}: {row.what}: {row.seen} ({row.wanted})", file=sys.stderr, flush=True)


def _run(found: Target, attack: Attack, ends: float, alone: Sequence[float]) -> list[Row]:
    found.until = min(time.monotonic() + attack.seconds, ends)
    found.begin()
    began = time.monotonic()
    own = list(attack.work(found))
    calm_since = time.monotonic() if attack.away else began
    time.sleep(max(0.0, calm_since + _ALONE_SECONDS - time.monotonic()))
    seen = found.end()
    return [*own, *verdicts(found, seen, alone, attack.away)]


def main() -> int:
    """Attack, and print the table."""
    parser = argparse.ArgumentParser(prog="just attack", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*ATTACKS, []], metavar="NAME", help=", ".join(ATTACKS))
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="repeats a run's choices")  # noqa: S311 - no secret
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for all attacks together (%(default)g)")
    given = parser.parse_args()
    run = Run(given.seed, given.seconds)
    try:
        for name in given.names or ATTACKS:
            run.attack(name, ATTACKS[name])
    finally:
        run.close()
    table = Table("attack", "what", "promised", "seen", "", title=f"--seed {given.seed}")
    for name, row in run.rows:
        table.add_row(name, row.what, row.wanted, row.seen, "ok" if row.holds else "FAILED")
    Console(width=140).print(table)
    return 0 if all(row.holds for _, row in run.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
