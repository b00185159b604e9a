"""Prints what the rules found."""

from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gateway.cli.conformance.peer import Peer
from gateway.cli.conformance.rule import Finding

_DETAIL = 300
_PIPED = 200
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], " ")


def show(peer: Peer, findings: Sequence[Finding]) -> None:
    """Print a table with what each rule found, and their sums."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPED)
    console.print(f"{peer.model} at {peer.url}", markup=False)
    table = Table("found", "level", "rule", "", box=SIMPLE_HEAD, pad_edge=False)
    for number, found in enumerate(findings):
        is_last = number + 1 == len(findings) or findings[number + 1].rule.group != found.rule.group
        told = (found.outcome, found.rule.level, _plain(found.rule.name), _plain(found.detail))
        table.add_row(*told, end_section=is_last)
    console.print(table)
    console.print(summary(findings), markup=False)


def summary(findings: Sequence[Finding]) -> str:
    """Say in a line how many rules hold, and how many are broken."""
    counted = Counter(found.outcome for found in findings)
    musts = sum(breaks_must(found) for found in findings)
    return (
        f"{counted['holds']} hold, {counted['refused']} refused, {counted['absent']} absent, "
        f"{counted['broken']} broken, {musts} of them a must"
    )


def breaks_must(found: Finding) -> bool:
    """Tell whether a rule is broken that clients rely on."""
    return found.outcome == "broken" and found.rule.level == "must"


def _plain(text: str) -> str:
    """Keep what a server wrote from moving the cursor, or being read as markup."""
    text = text.translate(_CONTROLS).replace("[", r"\[")
    return text if len(text) <= _DETAIL else f"{text[:_DETAIL]}…"
