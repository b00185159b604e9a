"""Where one answer stands in its grammar: which tokens may follow, which ones must, and whether it is complete."""

import time
from collections import deque
from collections.abc import Iterable
from typing import Protocol

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from gateway.engine import EngineError, InvalidRequest

# Seconds that all masks of an answer may take, and more for each token: what is slower is made to be slow.
_SECONDS = 0.5
_SECONDS_A_TOKEN = 0.001
# What each byte of a mask adds to the logits of its eight tokens. Filling by booleans takes ten times as long.
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_BIAS = np.where(_BITS, np.float32(0), np.float32(-np.inf))


class SpentSeconds(Protocol):
    """Hears what a grammar costs; `param` is what errors about it name."""

    @property
    def param(self) -> str:
        """The name of the constraint's capability."""
        ...

    def spend(self, seconds: float, /) -> None:
        """Count seconds of computing."""
        ...


class Ends:
    """How an answer goes on and ends: the tokens that end it are `eos` of the model, and the caller's own.

    With `ignored` the model's are drawn only where nothing else may follow. Where `forcing` is off each token is drawn,
    as it must be where some are banned.
    """

    def __init__(
        self, eos: Iterable[int], own: Iterable[int] = (), *, ignored: bool = False, forcing: bool = True
    ) -> None:
        self.eos = sorted(eos)
        self.own = sorted(own)
        self.ignored = ignored
        self.forcing = forcing


class Guide:
    """One answer's way through a grammar; used by one thread at a time.

    With `after`, all before that text is free, but an answer cannot end there. `began` counts the tokens before the
    grammar's first one, and `lead` is what the last of them says of the constrained text already. The `forced` tokens
    come next: no others can.
    """

    def __init__(
        self, matcher: LLMatcher, tokenizer: LLTokenizer, ends: Ends, cost: SpentSeconds, after: str | None = None
    ) -> None:
        self.forced: deque[int] = deque()
        self.began = 0
        self.lead = b""
        self._matcher = matcher
        self._tokenizer = tokenizer
        self._ends = ends
        self._cost = cost
        self._marker = (after or "").encode()
        self._seen = b""
        self._taken = 0
        self._spent = 0.0
        self._force()

    @property
    def is_free(self) -> bool:
        """Whether the constraint has not begun."""
        return bool(self._marker)

    @property
    def is_done(self) -> bool:
        """Whether the sentence is complete and nothing can follow."""
        return not self._marker and self._matcher.is_stopped() and not self._matcher.is_error()

    def bias(self, width: int, *, may_end: bool) -> NDArray[np.float32]:
        """Return `[width]` to add to logits: 0 for what may follow, minus infinity for all else.

        Raises `EngineError` in a dead end, and `InvalidRequest` where the sentence ends before it may.
        """
        if self._marker:
            free = np.zeros(width, dtype=np.float32)
            free[self._ends.eos + self._ends.own] = -np.inf
            return free
        begun = time.perf_counter()
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8).copy()
        self._spend(time.perf_counter() - begun)
        self._check()
        complete = _clear(bits, self._ends.eos)
        goes_on = bool(bits.any())
        if complete and may_end:
            _set(bits, self._ends.own)
            if not (self._ends.ignored and goes_on):
                _set(bits, self._ends.eos)
        elif complete and not goes_on:
            raise InvalidRequest("the constrained answer is complete before it has min_tokens", param="min_tokens")
        elif not goes_on:
            raise EngineError("the constraint leads to a dead end: no token of the model can follow")
        bias = _BIAS[bits].reshape(-1)
        return bias[:width] if len(bias) >= width else np.pad(bias, (0, width - len(bias)), constant_values=-np.inf)

    def take(self, token: int) -> None:
        """Go on by the next token, and by those that it forces; raise `EngineError` where the grammar has no way."""
        self._taken += 1
        if self.forced:
            if self.forced.popleft() != token:
                raise EngineError("another token was drawn than the one that must follow")
        elif self._marker:
            self._search(token)
            self._force()
        elif token not in self._ends.eos:
            self._go(token)
            self._force()

    def take_forced(self, most: int) -> list[int]:
        """Take up to `most` of the forced tokens at once."""
        taken = [self.forced.popleft() for _ in range(min(most, len(self.forced)))]
        self._taken += len(taken)
        return taken

    def draft(self, guesses: list[int], most: int) -> list[int]:
        """Return the next tokens as far as they are known, else those guesses that the grammar has a way for."""
        if self.forced:
            return list(self.forced)[:most]
        if self._marker or not guesses:
            return guesses
        return guesses[: self._matcher.validate_tokens(guesses)]

    def _force(self) -> None:
        """Go on by all that must follow."""
        if self._marker or not self._ends.forcing or self._matcher.is_stopped():
            return
        begun = time.perf_counter()
        tokens = self._matcher.compute_ff_tokens()
        for token in tokens:
            self._go(token)
        self.forced.extend(tokens)
        self._spend(time.perf_counter() - begun)

    def _go(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            self._check()
            raise EngineError("the constraint does not allow a token that was drawn")

    def _search(self, token: int) -> None:
        """Look for the marker in what was said; the grammar begins behind it."""
        seen = self._seen + self._tokenizer.decode_bytes([token])
        at = seen.find(self._marker)
        if at < 0:
            self._seen = seen[-len(self._marker) :]
            return
        tail = seen[at + len(self._marker) :]
        self._marker, self._seen, self.began = b"", b"", self._taken
        if tail.strip():
            self.lead = tail
            for each in self._tokenizer.tokenize_bytes(tail):
                self._go(each)

    def _spend(self, seconds: float) -> None:
        self._spent += seconds
        self._cost.spend(seconds)
        if self._spent > _SECONDS + _SECONDS_A_TOKEN * self._taken:
            raise InvalidRequest("the constraint takes too long to compute; make it simpler", param=self._cost.param)

    def _check(self) -> None:
        if self._matcher.is_error():
            why = " ".join(self._matcher.get_error().replace("<non-verbose/>", "").split())[:200]
            raise InvalidRequest(f"the constraint cannot be followed: {why}", param=self._cost.param)


def _set(bits: NDArray[np.uint8], tokens: list[int]) -> None:
    for token in tokens:
        bits[token >> 3] |= 1 << (token & 7)


def _clear(bits: NDArray[np.uint8], tokens: list[int]) -> bool:
    """Clear the bits of tokens; tell whether one was set."""
    found = False
    for token in tokens:
        found |= bool(bits[token >> 3] >> (token & 7) & 1)
        bits[token >> 3] &= 0xFF ^ (1 << (token & 7))
    return found
