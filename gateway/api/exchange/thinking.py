"""Whether, how hard and how long a model thinks before it answers: many words, one meaning; pure."""

from collections.abc import Iterable
from typing import Literal, TypeVar

from msgspec import Struct

from gateway.engine import Capability, InvalidRequest, ReasoningEffort

T = TypeVar("T")
EffortWord = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ThinkingWish(Struct, frozen=True):
    """What one word of a body asks for, as `Chat` has it; the word's path is `param`."""

    param: str
    reasoning: bool | None = None
    effort: ReasoningEffort | None = None
    budget: int | None = None

    def asks_for(self, capability: str) -> bool:
        """Tell whether it is this that asks for a capability."""
        match capability:
            case Capability.REASONING:
                return self.reasoning is not None
            case Capability.REASONING_EFFORT:
                return self.effort is not None
            case Capability.REASONING_BUDGET:
                return self.budget is not None
            case _:
                return False


def wish_effort(param: str, word: EffortWord) -> ThinkingWish:
    """Read an effort: `none` is not to think."""
    if word == "none":
        return ThinkingWish(param, reasoning=False)
    return ThinkingWish(param, effort=word)


def wish_budget(param: str, tokens: int) -> ThinkingWish:
    """Read the tokens to think in: 0 is not to think, and -1 as many as the model likes."""
    if tokens == 0:
        return ThinkingWish(param, reasoning=False)
    return ThinkingWish(param, budget=None if tokens == -1 else tokens)


def combine(wishes: Iterable[ThinkingWish]) -> ThinkingWish:
    """Make one of all wishes; raise `InvalidRequest` for one that contradicts another."""
    made = ThinkingWish("")
    for wish in wishes:
        made = ThinkingWish(
            wish.param,
            _same(made.reasoning, wish.reasoning, wish.param),
            _same(made.effort, wish.effort, wish.param),
            _same(made.budget, wish.budget, wish.param),
        )
        if made.reasoning is False and (made.effort not in (None, "minimal") or made.budget is not None):
            raise InvalidRequest("one parameter says not to think, and another how much; give one", param=wish.param)
    return made


def _same(one: T | None, other: T | None, param: str) -> T | None:
    if one is not None and other is not None and one != other:
        raise InvalidRequest(f"another parameter says {one!r} of the same; give one of them", param=param)
    return other if one is None else one
