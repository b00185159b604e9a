"""Where one answer stands in its thoughts: once they have had their budget, the mark that closes them is forced."""

import codecs
from collections import deque
from typing import NamedTuple, Protocol

import numpy as np
from llguidance import LLTokenizer
from numpy.typing import NDArray

from gateway.engine import EngineError
from gateway_hf.constrain.guide import Guide

# A character has at most so many bytes, and a token one or more of them: for its rest a thought goes on.
_CHARACTER = 4
_Decoder = codecs.getincrementaldecoder("utf-8")


class AnswerGuide(Protocol):
    """Guides the draws of an answer: it is asked before each token, and hears each that was drawn."""

    @property
    def forced(self) -> deque[int]:
        """The tokens that come next, whatever is likely."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether the answer is complete and nothing can follow."""
        ...

    def bias(self, width: int, *, may_end: bool) -> NDArray[np.float32] | None:
        """Return `[width]` to add to logits, or None where anything may follow."""
        ...

    def take(self, token: int) -> None:
        """Go on by the next token."""
        ...

    def take_forced(self, most: int) -> list[int]:
        """Take up to `most` of the forced tokens at once."""
        ...

    def draft(self, guesses: list[int], most: int) -> list[int]:
        """Return the next tokens as far as they are known, else those guesses that may come."""
        ...


class ThoughtBounds(NamedTuple):
    """What a thought of one answer begins and ends with, and the tokens that there are to think in.

    `closing` are the tokens that write the mark `close`. With `is_thinking` the answer begins inside a thought.
    """

    opens: tuple[str, ...]
    close: str
    closing: tuple[int, ...]
    budget: int
    is_thinking: bool = False


class ThoughtGuide:
    """Counts what one answer thinks, all its thoughts together; used by one thread at a time.

    A thought that has had the budget is closed, but not within a character; with no budget each is closed as it opens.
    The answer goes on freely behind it, or as `guide` says, whose constraint begins there. Without `forcing` the mark
    is drawn token by token.
    """

    def __init__(
        self, bounds: ThoughtBounds, tokenizer: LLTokenizer, guide: Guide | None = None, *, forcing: bool = True
    ) -> None:
        self._guide = guide
        self._tokenizer = tokenizer
        self._opens = [mark.encode() for mark in bounds.opens]
        self._close = bounds.close.encode()
        self._keep = max(map(len, [*self._opens, self._close]))
        self._ids = bounds.closing
        self._left = bounds.budget
        self._thinks = bounds.is_thinking
        self._forcing = forcing
        self._seen = b""
        self._closing: deque[int] = deque()
        self._bound()

    @property
    def forced(self) -> deque[int]:
        """The tokens that come next: of the mark that closes the thought, else those of the constraint."""
        return self._closing if self._closing or self._guide is None else self._guide.forced

    @property
    def is_done(self) -> bool:
        """Whether the answer is constrained and complete."""
        return self._guide is not None and self._guide.is_done

    def bias(self, width: int, *, may_end: bool) -> NDArray[np.float32] | None:
        """Return what the constraint says; None where there is none."""
        return None if self._guide is None else self._guide.bias(width, may_end=may_end)

    def take(self, token: int) -> None:
        """Go on by the next token; raise `EngineError` for another one than must follow."""
        if self._closing:
            if self._closing.popleft() != token:
                raise EngineError("another token was drawn than the one that must follow")
            self._go_on(token)
        else:
            self._go_on(token)
            self._bound()

    def take_forced(self, most: int) -> list[int]:
        """Take up to `most` of the forced tokens at once."""
        if not self._forcing:
            return []
        taken: list[int] = []
        while self._closing and len(taken) < most:
            taken.append(self._closing[0])
            self.take(taken[-1])
        return taken if self._guide is None else taken + self._guide.take_forced(most - len(taken))

    def draft(self, guesses: list[int], most: int) -> list[int]:
        """Return the next tokens as far as they are known, else the guesses that the constraint has a way for."""
        if self._closing:
            return list(self._closing)[:most]
        return guesses if self._guide is None else self._guide.draft(guesses, most)

    def _go_on(self, token: int) -> None:
        """Look for the marks in what was said; what a grammar holds has none."""
        was_free = self._guide is None or self._guide.is_free
        if self._guide is not None:
            self._guide.take(token)
        if not was_free:
            return
        self._left -= self._thinks
        self._seen += self._tokenizer.decode_bytes([token])
        while (found := self._next_mark()) is not None:
            self._seen = self._seen[found:]
            self._thinks = not self._thinks
        self._seen = self._seen[-self._keep :]

    def _next_mark(self) -> int | None:
        """Return where the next mark ends."""
        marks = [self._close] if self._thinks else self._opens
        found = [(at, -len(mark)) for mark in marks if (at := self._seen.find(mark)) >= 0]
        return None if not found else min(found)[0] - min(found)[1]

    def _bound(self) -> None:
        """Have a thought closed that has had its budget."""
        spent = -self._left
        if self._thinks and spent >= 0 and not (_is_torn(self._seen[-_CHARACTER:]) and spent < _CHARACTER - 1):
            self._closing.extend(self._ids)


def _is_torn(tail: bytes) -> bool:
    """Tell whether bytes of UTF-8 end within a character."""
    decoder = _Decoder(errors="ignore")
    decoder.decode(tail)
    return bool(decoder.getstate()[0])
