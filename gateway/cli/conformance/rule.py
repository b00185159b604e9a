"""A rule of the wire: what a client may rely on, and how it is tried."""

from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

from gateway.cli.conformance.peer import Peer

Level = Literal["must", "should"]
Found = Literal["holds", "refused", "absent", "broken"]
RuleTrial = Callable[[Peer], Awaitable[str | None]]


class RuleBroken(Exception):
    """The server broke the rule; the message says what it did."""


class Refused(Exception):
    """The server said by an error that it does not do what the rule is about, which is no breach."""


class Absent(Exception):
    """The server has nothing that the rule is about; the message says what is missing."""


class WireRule(NamedTuple):
    """A rule, its group and level, and the coroutine that tries it; its name is a sentence."""

    group: str
    level: Level
    name: str
    trial: RuleTrial


class Finding(NamedTuple):
    """What a rule found, in words, and after how many seconds."""

    rule: WireRule
    outcome: Found
    detail: str
    seconds: float


RULES: list[WireRule] = []


def rule(group: str, level: Level = "must") -> Callable[[RuleTrial], RuleTrial]:
    """Enter a coroutine as a rule; the first line of its docstring is the rule's sentence."""

    def enter(trial: RuleTrial) -> RuleTrial:
        sentence = (trial.__doc__ or "").partition("\n")[0].removesuffix(".")
        RULES.append(WireRule(group, level, sentence, trial))
        return trial

    return enter


def expect(holds: object, complaint: str) -> None:
    """Raise `RuleBroken` with the complaint unless it holds."""
    if not holds:
        raise RuleBroken(complaint)
