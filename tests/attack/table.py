"""The table of attacks: a function, the name that it has, and what it may break."""

from collections.abc import Callable, Iterable

from msgspec import Struct

from tests.attack.target import Target
from tests.chaos.row import Row

Work = Callable[[Target], Iterable[Row]]


class Attack(Struct, frozen=True):
    """`interrupts` where a worker dies; `seconds` its time; `settings` are those of a service of its own."""

    work: Work
    interrupts: bool
    seconds: float
    settings: dict[str, str]


ATTACKS: dict[str, Attack] = {}


def attack(*, interrupts: bool = False, seconds: float = 4.0, **settings: str) -> Callable[[Work], Work]:
    """Put a function into the table under its name; it yields the rows that only it can tell."""

    def put(work: Work) -> Work:
        ATTACKS[work.__name__] = Attack(work, interrupts, seconds, settings)
        return work

    return put
