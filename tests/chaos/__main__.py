"""Run all trials, or those named, and print the table; exit 1 where a promise does not hold."""

import asyncio
import sys

from rich.console import Console
from rich.table import Table

from tests.chaos.batches import batches
from tests.chaos.deaths import engine_deaths, engine_stop, fallback, main_death, worker_death
from tests.chaos.drain import drain, reloads
from tests.chaos.guesses import guesses
from tests.chaos.neighbours import noisy_neighbour, slow_clients
from tests.chaos.overload import overload
from tests.chaos.rush import aborts
from tests.chaos.upstreams import upstreams

_TRIALS = {
    trial.__name__: trial
    for trial in (
        overload,
        engine_deaths,
        fallback,
        upstreams,
        engine_stop,
        worker_death,
        main_death,
        reloads,
        drain,
        aborts,
        noisy_neighbour,
        slow_clients,
        guesses,
        batches,
    )
}


def main() -> int:
    """Print the table."""
    names = sys.argv[1:] or list(_TRIALS)
    table = Table("trial", "what", "promised", "seen", "")
    held = True
    for name in names:
        for row in asyncio.run(_TRIALS[name]()):
            held &= row.holds
            table.add_row(name, row.what, row.wanted, row.seen, "ok" if row.holds else "MISSED")
    Console(width=140).print(table)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
