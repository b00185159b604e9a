"""The table of attacks: a function, the name that it has, and what it may break."""

from collections.abc import Callable, Iterable

from msgspec import Struct

from tests.attack.target import Target
from tests.chaos.row import Row

Work = Callable[[Target], Iterable[Row]]


class Attack(Struct, frozen=True):
    """`seconds` its time; `settings` are those of a service of its own.

    `away` where it kills or stops the only worker: the seconds until there is another one, else 0.
    """

    work: Work
    away: float
    seconds: float
    settings: dict[str, str]


ATTACKS: dict[str, Attack] = {}


def attack(*, away: float = 0.0, seconds: float = 4.0, **settings: str) -> Callable[[Work], Work]:
    """Put a function into the table under its name; it yields the rows that only it can tell."""

    def put(work: Work) -> Work:
        ATTACKS[work.__name__] = Attack(work, away, seconds, settings)
        return work

    return put
