"""Guess the next tokens of an answer from its own past: what followed the last time that it ended like this.

This is prompt lookup decoding (Saxena, 2023). A wrong guess costs a row of a forward pass and never changes the text,
so each answer keeps a record of its guesses, guesses less where few come true, and after a while only rarely.
"""

from itertools import cycle, islice
from math import ceil
from typing import NamedTuple

# So many last tokens are looked up, the longer run first.
_GRAMS = (3, 2)
# The share of guesses that must come true, and the weight of the latest ones in it.
_LEAST = 0.25
_WEIGHT = 0.3
# For so many tokens nothing is guessed where it did not pay: doubled each time, up to the longest.
_REST = 16
_LONGEST_REST = 512


class Guessing(NamedTuple):
    """Guess at most `most` tokens of an answer at once, and only while no more than `answers` answers decode."""

    answers: int
    most: int


class Drafter:
    """Guesses for one answer, whose tokens only ever grow. An index of its runs of tokens grows with them."""

    def __init__(self) -> None:
        self._followers: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self._share = 1.0
        self._rest = _REST
        self._resume = 0

    def propose(self, tokens: list[int], most: int) -> list[int]:
        """Return up to `most` tokens that may follow; none where nothing is known or guessing does not pay."""
        if most < 1 or len(tokens) < self._resume:
            return []
        self._index(tokens)
        for gram in _GRAMS:
            at = self._followers.get(tuple(tokens[-gram:]))
            if at is not None:
                return _go_on(tokens, at, min(most, ceil(most * self._share)))
        return []

    def learn(self, tokens: list[int], guessed: int, accepted: int) -> None:
        """Take into the record that of `guessed` tokens the first `accepted` came true; `tokens` is all there is."""
        self._share += _WEIGHT * (accepted / guessed - self._share)
        if self._share >= _LEAST:
            self._rest = _REST
            return
        self._resume = len(tokens) + self._rest
        self._rest = min(2 * self._rest, _LONGEST_REST)

    def _index(self, tokens: list[int]) -> None:
        """Note what follows each run of tokens; nothing follows the last ones yet."""
        for gram in _GRAMS:
            first = max(self._indexed, gram)
            # Slices keep this in C: a prompt of thousands of tokens is indexed at once.
            runs = zip(*[tokens[first - back : -back] for back in range(gram, 0, -1)], strict=True)
            self._followers.update(zip(runs, range(first, len(tokens)), strict=True))
        self._indexed = len(tokens)


def _go_on(tokens: list[int], at: int, most: int) -> list[int]:
    """Return the tokens from `at` on; where they end early, a period has been found, which goes on."""
    return list(islice(cycle(tokens[at : at + most]), most))
