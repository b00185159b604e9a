"""Tokens that may not be drawn: all but the allowed ones, and those that would complete a bad word."""

from collections import defaultdict

import torch
from torch import Tensor

from gateway_hf.sampling.terms import Terms

_OFF = float("-inf")


class Bans:
    """What one sequence may not draw next.

    A bad word is banned as in vLLM: its last token, where the answer ends with all of its others. The prompt's tokens
    do not count.
    """

    def __init__(self, terms: Terms, vocabulary: int, device: torch.device) -> None:
        self._always = torch.full((vocabulary,), bool(terms.allowed_token_ids), dtype=torch.bool, device=device)
        self._always[torch.tensor(terms.allowed_token_ids, dtype=torch.long, device=device)] = False
        for word in terms.bad_words:
            if len(word) == 1:
                self._always[word[0]] = True
        self._after: dict[int, list[tuple[list[int], int]]] = defaultdict(list)
        for *begin, last in terms.bad_words:
            if begin:
                self._after[begin[-1]].append((begin, last))
        self._drawn: list[int] = []

    def adjust(self, logits: Tensor) -> None:
        """Take all chance from the banned tokens, in one row of logits `[vocabulary]`."""
        logits.masked_fill_(self._always, _OFF)
        drawn = self._drawn
        if self._after and drawn:
            for begin, last in self._after.get(drawn[-1], ()):
                if drawn[-len(begin) :] == begin:
                    logits[last] = _OFF

    def note(self, token: int) -> None:
        """Remember the token that was drawn."""
        if self._after:
            self._drawn.append(token)
