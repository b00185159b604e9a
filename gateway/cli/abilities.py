"""The table that says which model can do what, as a page has it."""

from collections.abc import Collection, Mapping

from gateway.engine import Capability


def to_table(cards: Mapping[str, Collection[str]]) -> str:
    """Write the capabilities of each card, by its column, as a Markdown table; what none can do has no row."""
    known = [name.value for name in Capability]
    found = {name for capabilities in cards.values() for name in capabilities}
    names = [*(name for name in known if name in found), *sorted(found.difference(known))]  # of a newer gateway too
    rows = [[f"`{name}`", *("yes" if name in can else "" for can in cards.values())] for name in names]
    head = ["can", *(f"`{column}`" for column in cards)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))
