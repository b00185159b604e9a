"""What is promised beside an attack, held against what the neighbour saw and what is left."""

import time
from collections.abc import Sequence

from tests.attack.seen import Seen
from tests.attack.target import Target
from tests.chaos.row import Row, at_most, none_of, percentile

# What an attack leaves behind would be counted against the next one, which gets a service of its own therefore.
LEFT = ("left behind", "worker's memory, more than before")
# So ends the name of a row that says whether a model is back.
AGAIN = "answers again"
_MOST_MIB, _KEPT_MIB = 250.0, 30.0
_SLOWER = 2.0
_CALM_SECONDS = 10.0
_ALIVE_MS, _IDLE_MS = 50.0, 20.0
_NEVER = float("inf")

Answers = Sequence[tuple[float, float]]


def calm(target: Target, seconds: float = 2.0) -> tuple[list[Row], list[float]]:
    """Watch the idle service; return its row, and the seconds that each of the neighbour's answers took alone."""
    target.begin()
    time.sleep(seconds)
    seen = target.end()
    row = at_most("idle: /livez p99", _at(seen.alive, 0.99) * 1e3, _IDLE_MS, " ms")
    return [row], [took for _, took in seen.answers]


def verdicts(target: Target, seen: Seen, alone: Sequence[float], away: float) -> list[Row]:
    """Hold what the neighbour saw against the promises; `alone` are the seconds of its answers without an attack.

    Where an attack interrupts the only worker, connections break and nothing answers for a while: for `away` seconds
    at most, and no request lasts longer. The other promises hold before and after.
    """
    gaps = [(began, began + _next(seen.answers, began)) for began in target.interruptions]
    asked = len(seen.answers) + len(seen.wrong)
    if away:
        rows = [
            at_most("/livez: from the interruption to a 200", _most(seen.alive, target.interruptions), away, " s"),
            at_most("neighbour: to a right answer", _most(seen.answers, target.interruptions), away, " s"),
            at_most("neighbour: longest request", max(seen.lost + [took for _, took in seen.answers]), away, " s"),
        ]
    else:
        rows = [none_of("neighbour: connections lost", len(seen.lost), asked)]
    slower = _at(_outside(seen.answers, gaps), 0.5) / percentile(alone, 0.5)
    return [
        at_most("/livez p99", _at(_outside(seen.alive, gaps), 0.99) * 1e3, _ALIVE_MS, " ms"),
        none_of("neighbour: wrong answers", len(seen.wrong), asked),
        *rows,
        at_most("neighbour: median time, of alone", slower, _SLOWER, "x"),
        at_most("worker's memory, most", max(seen.weights, default=0.0), _MOST_MIB, " MiB"),
    ]


def leftovers(target: Target, before: dict[str, float]) -> list[Row]:
    """Wait until nothing of an attack is left, and say what is after ten seconds."""
    until = time.monotonic() + _CALM_SECONDS
    while True:
        now = target.holdings()
        more = {name: now[name] - before[name] for name in now}
        kept = more.pop("MiB")
        slack = {"descriptors": 4, "tasks": 2, "threads": 1}  # that of large work begins with the first, and stays
        left = {name: count for name, count in more.items() if count > slack.get(name, 0)}
        if (not left and kept <= _KEPT_MIB) or time.monotonic() > until:
            break
        time.sleep(0.2)
    said = ", ".join(f"{count:g} {name}" for name, count in left.items()) or "nothing"
    return [
        Row(LEFT[0], "nothing", said, not left),
        at_most(LEFT[1], kept, _KEPT_MIB, " MiB"),
    ]


def _at(answers: Answers, share: float) -> float:
    return percentile([took for _, took in answers], share) if answers else _NEVER


def _next(answers: Answers, moment: float) -> float:
    """Return the seconds from a moment to the first answer of a request that began after it."""
    return min((began + took - moment for began, took in answers if began > moment), default=_NEVER)


def _most(answers: Answers, moments: Sequence[float]) -> float:
    return max((_next(answers, moment) for moment in moments), default=0.0)


def _outside(answers: Answers, gaps: Sequence[tuple[float, float]]) -> Answers:
    return [
        (began, took) for began, took in answers if all(began >= end or began + took <= start for start, end in gaps)
    ]
