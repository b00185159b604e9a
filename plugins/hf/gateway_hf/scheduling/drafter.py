"""Guess the next tokens of an answer from its own past: what followed the last time that it ended like this.

This is prompt lookup decoding (Saxena, 2023). A wrong guess costs a row of a forward pass and never changes the text.
Guesses that are not computed are compared with what is drawn as well, so it costs nothing to learn how often they come
true.
"""

from itertools import cycle, islice
from typing import NamedTuple

# So many last tokens are looked up, the longer run first.
_GRAMS = (3, 2)
# Half of the first guesses are thought to come true; then so much counts each next one.
_SHARE = 0.5
_WEIGHT = 0.15
_FADE = 0.005


class Guessing(NamedTuple):
    """Guess at most `most` tokens of an answer at once, and none where more than `answers` decode."""

    answers: int
    most: int


class HitRate:
    """How many guesses come true of those that follow nothing wrong: `share`, of which the latest count most."""

    def __init__(self) -> None:
        self.share = _SHARE

    def learn(self, guesses: list[int], drawn: list[int]) -> None:
        """Take in what came in the place of guesses, up to the first that was wrong."""
        for guess, token in zip(guesses, drawn, strict=False):
            self.share += _WEIGHT * ((guess == token) - self.share)
            if guess != token:
                break

    def fade(self) -> None:
        """Forget a little, where nothing is guessed and so nothing learned."""
        self.share += _FADE * (_SHARE - self.share)


class Drafter:
    """Guesses for one answer, whose tokens only ever grow. An index of its runs of tokens grows with them.

    `rate` says how often its guesses come true.
    """

    def __init__(self) -> None:
        self.rate = HitRate()
        self._followers: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self._proposed: list[int] = []

    def propose(self, tokens: list[int], most: int) -> list[int]:
        """Return up to `most` tokens that may follow; none where nothing is known."""
        self._proposed = []
        if most < 1:
            return []
        self._index(tokens)
        for gram in _GRAMS:
            at = self._followers.get(tuple(tokens[-gram:]))
            if at is not None:
                self._proposed = _go_on(tokens, at, most)
                break
        return self._proposed

    def learn(self, drawn: list[int]) -> None:
        """Take in what came in the place of what was proposed, up to the first that was guessed wrong."""
        proposed, self._proposed = self._proposed, []
        self.rate.learn(proposed, drawn)

    def _index(self, tokens: list[int]) -> None:
        """Note what follows each run of tokens; nothing follows the last ones yet."""
        for gram in _GRAMS:
            first = max(self._indexed, gram)
            # Slices keep this in C: a prompt of thousands of tokens is indexed at once.
            runs = zip(*[tokens[first - back : -back] for back in range(gram, 0, -1)], strict=True)
            self._followers.update(zip(runs, range(first, len(tokens)), strict=True))
        self._indexed = len(tokens)


def worthwhile(share: float, price: float, most: int) -> int:
    """Return how many guesses of an answer are worth a price each: while it is likelier that all came true so far."""
    count, likely = 0, share
    while count < most and likely > price:
        count += 1
        likely *= share
    return count


def _go_on(tokens: list[int], at: int, most: int) -> list[int]:
    """Return the tokens from `at` on; where they end early, a period has been found, which goes on."""
    return list(islice(cycle(tokens[at : at + most]), most))
