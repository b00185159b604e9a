"""What was found of each server, the ratios, and the table of them."""

import statistics
from collections.abc import Iterable, Sequence

from msgspec import Struct, field
from rich.table import Table

from tests.load.peers.samples import Level
from tests.load.peers.table import CLASSES, OURS, Rival


class Finding(Struct):
    """What was found of a server in one round: seconds until it was ready, bytes, levels by prompts, or why nothing."""

    rival: Rival
    start: float = 0.0
    resident: int = 0
    levels: dict[str, list[Level]] = field(default_factory=dict)
    reason: str = ""


class PeerRow(Struct, frozen=True):
    """A server with one set of prompts, over all rounds: tokens a second by clients, and the rest as in `Level`."""

    rival: Rival
    start: float
    resident: int
    speeds: dict[int, float]
    bursts: dict[int, float]
    pauses: dict[int, float]
    failed: tuple[str, ...]


def merge(findings: Sequence[Finding], prompts: str) -> list[PeerRow]:
    """Make a row for each server that answered, in the order in which they are: medians over the rounds."""
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
    for head in (*heads, f"TTFT p50 of {most}", "x", *(f"pause p99 at {n}" for n in clients), "start", "MiB"):
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
            table.add_row(*cells, f"{row.start:.1f} s", f"{row.resident / 2**20:.0f}")
    return table


def _told(value: float | None, form: str, factor: float = 1.0) -> str:
    return "-" if value is None else form.format(value * factor)


def notes(rows: Sequence[PeerRow], left: dict[str, str]) -> list[str]:
    """Say what the figures do not: how a server was asked, which answers failed, which servers did not run."""
    told = list(dict.fromkeys(row.rival.note for row in rows if row.rival.note))
    told += [f"{row.rival.name}, {why}" for row in rows for why in row.failed]
    return told + [f"{name} not run: {why}" for name, why in left.items()]
