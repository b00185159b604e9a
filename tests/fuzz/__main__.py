"""Send every endpoint what our document allows, and what it does not; exit 1 where one answer was a 5xx.

First schemathesis for `--seconds`, then hypothesis for as long at most, with `--examples` for each operation; `--seed`
repeats what is drawn.
"""

import argparse
import contextlib
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import httpx
from hypothesis import HealthCheck, Phase, given, seed, settings
from rich.console import Console
from rich.table import Table

from tests.attack.search import documented
from tests.attack.target import Target, target
from tests.chaos.row import Row, none_of
from tests.fuzz.bodies import Operation, operations


def main() -> int:
    """Fuzz, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(prog="just fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--examples", type=int, default=150)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    asked = parser.parse_args()
    with target(random.Random(asked.seed)) as found:  # noqa: S311 - a run that can be repeated
        rows = [*documented(found, asked.seconds), *_every_operation(found, asked.seconds, asked.examples, asked.seed)]
    _print(rows)
    print(f"seed {asked.seed}", file=sys.stderr)
    return 0 if all(row.holds for row in rows) else 1


def _every_operation(found: Target, seconds: float, examples: int, chance: int) -> Iterator[Row]:
    """Send to each operation what is drawn; each has its share of the time that is left, and no more."""
    until = time.monotonic() + seconds
    headers = {"authorization": f"Bearer {found.keys['attacker']}"}
    client = httpx.Client(base_url=found.service.url, headers=headers, timeout=30)
    with client:
        document = client.get("/schema/openapi.json").json()
        every = [*operations(document)]
        for number, operation in enumerate(every):
            share = (until - time.monotonic()) / (len(every) - number)
            told = _Told(time.monotonic() + share)
            _send_all(client, operation, examples, chance, told)
            said = f"{operation.method} {operation.path}: {dict(sorted(told.statuses.items()))}"
            if told.faults:
                said += f"; {min(told.faults, key=len)}"
            yield none_of(said[:400], len(told.faults), told.statuses.total())


class _TimeIsUpError(Exception):
    """Ends the drawing: what is drawn takes most of the time, so it is not enough to send no more of it."""


class _Told:
    """The answers to one operation, which is asked until that monotonic second."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.statuses: Counter[int] = Counter()
        self.faults: list[str] = []


def _send_all(client: httpx.Client, operation: Operation, examples: int, chance: int, told: _Told) -> None:
    """Send what is drawn; no fault is raised, so that one does not hide the next."""

    @seed(chance)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
        report_multiple_bugs=False,
    )
    @given(path=operation.paths(), body=operation.bodies())
    def send(path: str, body: tuple[str, bytes]) -> None:
        if time.monotonic() > told.until and told.statuses:
            raise _TimeIsUpError
        kind, content = body
        headers = {"content-type": kind} if kind else {}
        try:
            answer = client.request(operation.method, path, content=content, headers=headers)
            status, text = answer.status_code, answer.text
        except httpx.HTTPError as error:
            status, text = 599, repr(error)
        told.statuses[status] += 1
        if status >= 500:
            told.faults.append(f"{status} {path} {kind} {content!r}: {text[:100]}")

    with contextlib.suppress(_TimeIsUpError):
        send()


def _print(rows: Sequence[Row]) -> None:
    table = Table("what", "5xx", "")
    for row in rows:
        table.add_row(row.what, row.seen, "holds" if row.holds else "[red]does not hold")
    Console(width=170).print(table)


if __name__ == "__main__":
    sys.exit(main())
