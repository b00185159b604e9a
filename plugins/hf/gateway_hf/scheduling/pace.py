"""How many tokens of prompts a step reads beside answers: as many as their pause allows, by what steps have taken."""

# A step that reads prompts takes so many times what one without takes, at most.
_STRETCH = 3.0
# Seconds that a step may take in any case: answers that come faster than anybody reads need no more speed.
_SECONDS = 0.04
# Tokens of prompts that a step reads in any case, so that prompts go on; a kernel's block is a few rows.
_LEAST = 16
# How much a new step counts.
_WEIGHT = 0.25


class StepPace:
    """Learns what steps take, and says how many tokens of prompts the next one reads: `most` where nothing is known.

    A step takes what one with about as many answers took, and so much more for each token of prompts.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._decoding: dict[int, float] = {}
        self._token = 0.0

    def room(self, decodes: int, nearly: float = 0.0) -> int:
        """Return how many tokens of prompts a step reads beside so many rows of answers.

        So many prompts are `nearly` read: where they are no fewer than the answers, these wait, for the first token of
        each is waited for as well.
        """
        most = self._most - decodes
        alone = self._alone(decodes)
        if nearly >= decodes or alone is None or not self._token:
            return most
        seconds = max(_SECONDS, _STRETCH * alone) - alone
        return max(min(round(seconds / self._token), most), min(_LEAST, most))

    def learn(self, decodes: int, prompts: int, seconds: float) -> None:
        """Take in what a step of so many rows of answers and tokens of prompts took."""
        if not prompts:
            kind = decodes.bit_length()
            self._decoding[kind] = _mixed(self._decoding.get(kind, 0.0), seconds)
        elif prompts >= _LEAST and (alone := self._alone(decodes) if decodes else 0.0) is not None:
            self._token = _mixed(self._token, max(seconds - alone, 0.0) / prompts)

    def _alone(self, decodes: int) -> float | None:
        """Return the seconds of a step with about so many rows of answers; `None` where none is known."""
        kind = decodes.bit_length()
        known = min(self._decoding, key=lambda each: abs(each - kind), default=None)
        return None if known is None else self._decoding[known]


def _mixed(before: float, now: float) -> float:
    return now if not before else before + _WEIGHT * (now - before)
