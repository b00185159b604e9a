"""One line of the table: what was promised, what was seen, and whether it holds."""

import statistics
from collections.abc import Sequence

from msgspec import Struct


class Row(Struct, frozen=True):
    """A promise and its measurement."""

    what: str
    wanted: str
    seen: str
    holds: bool


def at_least(what: str, value: float, bound: float, unit: str = "") -> Row:
    """Promise that `value` is `bound` or more."""
    return Row(what, f">= {bound:g}{unit}", f"{value:.4g}{unit}", value >= bound)


def at_most(what: str, value: float, bound: float, unit: str = "") -> Row:
    """Promise that `value` is `bound` or less."""
    return Row(what, f"<= {bound:g}{unit}", f"{value:.4g}{unit}", value <= bound)


def none_of(what: str, count: int, of: int) -> Row:
    """Promise that none of `of` is so."""
    return Row(what, "0", f"{count} of {of}", count == 0 and of > 0)


def percentile(values: Sequence[float], share: float) -> float:
    """Find the value below which `share` of the values are."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]
