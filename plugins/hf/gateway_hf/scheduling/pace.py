"""How many tokens a step computes, and of prompts beside answers: as many as can be waited for, by what steps took."""

from collections.abc import Iterable
from itertools import takewhile

# A step that reads prompts takes so many times what one without takes, at most.
_STRETCH = 3.0
# Seconds that a step may take in any case: answers that come faster than anybody reads need no more speed.
_SECONDS = 0.04
# Tokens of prompts that a step reads in any case, so that prompts go on; a kernel's block is a few rows.
_LEAST = 16
# Seconds that a step takes where answers wait for prompts, or there are none; tokens that it computes in any case, for
# the weights are read as often as there are steps; and how many times as many as the last one at most.
_LONG = 0.2
_SURE = 128
_GROWTH = 2.0
# How much a new step counts.
_WEIGHT = 0.25


class StepPace:
    """Learns what steps take, and says how many tokens the next one computes.

    `budget` are the tokens of a step that has all the time there is, `most` at the most: `sure` ones until full steps
    turn out to be short. Those are computed in any case, and are no less than one for each of `places`.
    A step takes what one with about as many answers took, and so much more for each token of prompts.
    """

    def __init__(self, most: int, places: int = 0) -> None:
        self.budget = self.sure = min(most, max(_SURE, places + 1))
        self._most = most
        self._decoding: dict[int, float] = {}
        self._token = 0.0

    def waited(self, decodes: int, prompts: Iterable[int]) -> int:
        """Return for how many tokens of prompts so many answers wait; `prompts` are the tokens that are left of each.

        They wait for prompts that are no fewer, each as the share of it that a step surely reads: the first token of
        each is waited for as well. They do not wait for more of a long one than for a step that is short, nor for what
        is behind it.
        """
        left = list(prompts)
        if sum(min(1.0, self.sure / each) for each in left) < decodes:
            return 0
        return max(self.sure, sum(takewhile(lambda each: each <= self.budget, left)))

    def room(self, decodes: int, waited: int = 0) -> int:
        """Return how many tokens of prompts a step reads beside so many rows of answers that wait for some."""
        most = self.budget - decodes
        if not decodes:
            return most
        if waited:
            return min(most, waited)
        alone = self._alone(decodes)
        if alone is None or not self._token:
            return max(self.sure - decodes, 0)
        seconds = max(_SECONDS, _STRETCH * alone) - alone
        return max(min(round(seconds / self._token), most), min(_LEAST, most))

    def learn(self, decodes: int, prompts: int, seconds: float) -> None:
        """Take in what a step of so many rows of answers and tokens of prompts took."""
        if not prompts:
            kind = decodes.bit_length()
            self._decoding[kind] = _mixed(self._decoding.get(kind, 0.0), seconds)
            return
        tokens, is_long = decodes + prompts, seconds > _LONG
        if tokens >= self.budget or (is_long and tokens > self.sure):
            wanted = round(tokens * _LONG / max(seconds, _LONG / _GROWTH))
            self.budget = min(max(wanted, self.sure), self._most)
        if prompts >= _LEAST and (alone := self._alone(decodes) if decodes else 0.0) is not None:
            self._token = _mixed(self._token, max(seconds - alone, 0.0) / prompts)

    def _alone(self, decodes: int) -> float | None:
        """Return the seconds of a step with about so many rows of answers; `None` where none is known."""
        kind = decodes.bit_length()
        known = min(self._decoding, key=lambda each: abs(each - kind), default=None)
        return None if known is None else self._decoding[known]


def _mixed(before: float, now: float) -> float:
    return now if not before else before + _WEIGHT * (now - before)
