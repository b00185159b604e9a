"""What was found of each server, the ratios, and the table of them."""

import statistics
from collections.abc import Iterable, Sequence

from msgspec import Struct, field
from rich.table import Table

from tests.load.peers.samples import Level
from tests.load.peers.table import CLASSES, OURS, Rival

_HEADS = ("start", "MiB", "used", "GFLOP/s")
# How many times as fast the machine itself may have been for one server as for another, for a ratio to say much.
_STEADY = 1.25


class Finding(Struct):
    """What was found of a server while it was up: seconds until it was ready, levels by prompts, or why nothing more.

    Bytes are `resident` when it was ready, and `used` after its last level.
    """

    rival: Rival
    start: float = 0.0
    resident: int = 0
    used: int = 0
    levels: dict[str, list[Level]] = field(default_factory=dict)
    reason: str = ""


class PeerRow(Struct, frozen=True):
    """A server with one set of prompts, over all runs: tokens a second by clients, and the rest as in `Level`.

    `machine` is the median of what the machine itself did before and after the levels, in operations a second.
    """

    rival: Rival
    start: float
    resident: int
    used: int
    machine: float
    speeds: dict[int, float]
    bursts: dict[int, float]
    pauses: dict[int, float]
    failed: tuple[str, ...]


def merge(findings: Sequence[Finding], prompts: str) -> list[PeerRow]:
    """Make a row for each server that answered, in the order in which they are: medians over the runs."""
    names = dict.fromkeys(each.rival.name for each in findings if each.levels.get(prompts))
    rows = []
    for name in names:
        own = [each for each in findings if each.rival.name == name and each.levels.get(prompts)]
        levels = [level for each in own for level in each.levels[prompts]]
        good = [level for level in levels if level.answers]
        rows.append(
            PeerRow(
                own[0].rival,
                statistics.median(each.start for each in own),
                max(each.resident for each in own),
                max(each.used for each in own),
                statistics.median(rate for level in levels for rate in level.machine or (0.0,)),
                _medians(good, "speed"),
                _medians(good, "burst"),
                _medians(good, "pause"),
                tuple(dict.fromkeys(f"{level.clients} clients: {why}" for level in levels for why in level.failed)),
            )
        )
    return rows


def _medians(levels: Iterable[Level], figure: str) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for level in levels:
        found.setdefault(level.clients, []).append(getattr(level, figure))
    return {clients: statistics.median(values) for clients, values in found.items()}


def best(rows: Sequence[PeerRow], precision: str, figure: str, clients: int) -> float | None:
    """Return the best figure of other servers in a class: the largest speed, the least of times; `None` for none."""
    peers = [row for row in rows if row.rival.precision == precision and row.rival.peer != OURS]
    values = [value for row in peers if (value := getattr(row, figure).get(clients)) is not None]
    if not values:
        return None
    return max(values) if figure == "speeds" else min(values)


def ratio(rows: Sequence[PeerRow], row: PeerRow, figure: str, clients: int) -> float | None:
    """Return a figure as a share of the best peer's of the same class; `None` where there is none."""
    value, peer = getattr(row, figure).get(clients), best(rows, row.rival.precision, figure, clients)
    return None if value is None or not peer else value / peer


def own_gains(rows: Sequence[PeerRow], clients: Sequence[int]) -> list[str]:
    """Say how many times as fast ours with rounded weights are as ours in 16 bits."""
    ours = {row.rival.precision: row for row in reversed(rows) if row.rival.peer == OURS}
    told = []
    for precision in CLASSES[1:]:
        if precision in ours and CLASSES[0] in ours:
            pairs = [(ours[precision].speeds.get(number), ours[CLASSES[0]].speeds.get(number)) for number in clients]
            gains = [f"{own / base:.2f}" if own and base else "-" for own, base in pairs]
            told.append(f"ours in {precision} over ours in {CLASSES[0]}: {' / '.join(gains)}")
    return told


def tabled(rows: Sequence[PeerRow], clients: Sequence[int], title: str) -> Table:
    """Lay the rows out by class."""
    most = max(clients)
    table = Table(title=title, title_justify="left")
    table.add_column("server")
    heads = [each for number in clients for each in (f"tok/s at {number}", "x")]
    for head in (*heads, f"TTFT p50 of {most}", "x", *(f"pause p99 at {n}" for n in clients), *_HEADS):
        table.add_column(head, justify="right")
    for precision in CLASSES:
        own = [row for row in rows if row.rival.precision == precision]
        if own:
            table.add_section()
            table.add_row(f"[bold]{precision}")
        for row in own:
            cells = [row.rival.name]
            for number in clients:
                cells += [_told(row.speeds.get(number), "{:.0f}"), _told(ratio(rows, row, "speeds", number), "{:.2f}")]
            cells += [_told(row.bursts.get(most), "{:.0f} ms", 1e3), _told(ratio(rows, row, "bursts", most), "{:.2f}")]
            cells += [_told(row.pauses.get(number), "{:.0f} ms", 1e3) for number in clients]
            sizes = [f"{row.resident / 2**20:.0f}", _told(row.used or None, "{:.0f}", 2**-20)]
            table.add_row(*cells, f"{row.start:.1f} s", *sizes, _told(row.machine or None, "{:.0f}", 1e-9))
    return table


def _told(value: float | None, form: str, factor: float = 1.0) -> str:
    return "-" if value is None else form.format(value * factor)


def notes(rows: Sequence[PeerRow]) -> list[str]:
    """Say what the figures do not: how a server was asked, which answers failed, where the machine was not the same."""
    told = list(dict.fromkeys(row.rival.note for row in rows if row.rival.note))
    told += [f"{row.rival.name}, {why}" for row in rows for why in row.failed]
    return told + [note for precision in CLASSES if (note := _unsteady(rows, precision))]


def _unsteady(rows: Sequence[PeerRow], precision: str) -> str:
    """Warn of ratios in a class whose servers were measured while the machine itself was not equally fast."""
    rates = [row.machine for row in rows if row.rival.precision == precision and row.machine]
    if not rates or max(rates) <= _STEADY * min(rates):
        return ""
    span = f"{min(rates) / 1e9:.0f} to {max(rates) / 1e9:.0f} GFLOP/s"
    return f"{precision}: the machine itself did {span} beside these servers, so that their ratios say little"


def endings(findings: Sequence[Finding], left: dict[str, str]) -> list[str]:
    """Name the servers that were not installed, did not start, or were lost, with the reason of each."""
    told = [f"{name} not run: {why}" for name, why in left.items()]
    gone = [each for each in findings if each.reason]
    told += [f"{each.rival.name} {'lost' if each.levels else 'not run'}: {each.reason}" for each in gone]
    return list(dict.fromkeys(told))
