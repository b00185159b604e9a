"""A smaller model that guesses the next tokens of answers (speculative decoding: Leviathan et al. 2023).

It reads what the answers' model reads, and keeps its own keys and values in the same blocks of a cache of its own. What
it guesses is only ever a guess, so whatever it computes changes no text.
"""

import logging
import time
from collections.abc import Sequence as Some

import torch

from gateway.engine import Hold
from gateway_hf.compute.forward import Forward
from gateway_hf.compute.kernels import BLOCK
from gateway_hf.sampling.likeliest import find_likeliest
from gateway_hf.scheduling.drafter import HitRate
from gateway_hf.scheduling.scheduler import Chunk
from gateway_hf.scheduling.sequence import Sequence

_log = logging.getLogger("gateway_hf")

# Tokens that it reads in a step, of all answers together, before it guesses on.
_READ = 128
# How much the latest pass counts in what one takes.
_WEIGHT = 0.2


class _Follower:
    """What the draft model has of one sequence: `own` has the tokens it read, and guesses behind the `sure` ones."""

    def __init__(self, sequence: Sequence) -> None:
        self.own = Sequence([])
        self.rate = HitRate()
        self._sequence = sequence
        self._sure = 0
        self._preempted = sequence.preempted

    def catch_up(self, held: dict[int, bytes]) -> None:
        """Take the tokens that the answer has got, and count how many of all are in the cache still."""
        sequence, own = self._sequence, self.own
        guesses = own.tokens[self._sure :]
        self.rate.learn(guesses, sequence.tokens[self._sure :])
        true = 0
        while true < len(guesses) and self._sure + true < len(sequence.tokens):
            if guesses[true] != sequence.tokens[self._sure + true]:
                break
            true += 1
        known = self._sure + true
        own.tokens[known:] = sequence.tokens[known:]
        own.computed = min(own.computed, known)
        if sequence.preempted != self._preempted or not own.computed:
            self._preempted, own.computed = sequence.preempted, _found(sequence, held)
        own.computed = min(own.computed, len(own.tokens) - 1)
        own.blocks = sequence.blocks
        self._sure = len(own.tokens)


class DraftModel:
    """Guesses with a forward pass of another model, whose cache has as many blocks as that of the answers' model.

    It reads `window` tokens at most, and guesses tokens below `vocabulary`. `seconds` is what a pass takes that guesses
    a token for some answers; 0 until there was one. Its `hold` keeps its folder in the cache folder.
    """

    def __init__(self, forward: Forward, window: int, vocabulary: int, hold: Hold | None = None) -> None:
        self.seconds = 0.0
        self.hold = hold
        self._has_failed = False
        self._forward = forward
        self._window = window
        self._vocabulary = vocabulary
        self._followers: dict[Sequence, _Follower] = {}
        # Which tokens, by the hash of the chain of blocks, it has in a block.
        self._held: dict[int, bytes] = {}

    def rate(self, sequence: Sequence) -> HitRate:
        """Return how often guesses for a sequence come true."""
        return self._follower(sequence).rate

    @torch.inference_mode()
    def propose(self, wanted: Some[tuple[Sequence, int]]) -> list[list[int]]:
        """Return so many guesses for each sequence, which has room for them; none while it is still being read.

        Once a pass has failed there are none any more, and the log says why.
        """
        if not self._has_failed:
            try:
                return self._propose(wanted)
            except Exception:  # noqa: BLE001 - a model's own code may raise anything
                _log.exception("the draft model failed; from now on answers go on without its guesses")
                self._has_failed = True
                self._followers.clear()
        return [[] for _ in wanted]

    def forget(self, sequence: Sequence) -> None:
        """Drop what is known of a sequence; harmless when that is nothing."""
        self._followers.pop(sequence, None)

    def _follower(self, sequence: Sequence) -> _Follower:
        if sequence not in self._followers:
            self._followers[sequence] = _Follower(sequence)
        return self._followers[sequence]

    def _propose(self, wanted: Some[tuple[Sequence, int]]) -> list[list[int]]:
        guesses: list[list[int]] = [[] for _ in wanted]
        left = _READ
        going: list[tuple[int, Chunk]] = []
        for at, (sequence, _) in enumerate(wanted):
            own = self._ready(sequence)
            tokens = min(own.pending, left)
            if tokens and len(own.tokens) <= self._window:
                left -= tokens
                going.append((at, Chunk(own, tokens)))
        while going:
            begun = time.perf_counter()
            drawn = self._pass([chunk for _, chunk in going])
            if all(chunk.tokens == 1 for _, chunk in going):
                took = time.perf_counter() - begun
                self.seconds += (_WEIGHT if self.seconds else 1.0) * (took - self.seconds)
            following = []
            for (at, chunk), token in zip(going, drawn, strict=True):
                sequence, most = wanted[at]
                self._note(sequence, chunk)
                if token is None:
                    continue
                guesses[at].append(token)
                chunk.sequence.tokens.append(token)
                if len(guesses[at]) < most and len(chunk.sequence.tokens) <= self._window:
                    following.append((at, Chunk(chunk.sequence, 1)))
            going = following
        return guesses

    def _ready(self, sequence: Sequence) -> Sequence:
        follower = self._follower(sequence)
        follower.catch_up(self._held)
        return follower.own

    def _pass(self, chunks: list[Chunk]) -> list[int | None]:
        """Compute chunks; return the likeliest token behind each that leaves nothing pending."""
        for chunk in chunks:
            own = chunk.sequence
            for at in range(own.computed // BLOCK, (own.computed + chunk.tokens - 1) // BLOCK + 1):
                self._held.pop(own.blocks[at], None)
        logits, counts = self._forward.logits(chunks)
        likeliest = iter(find_likeliest(logits[:, : self._vocabulary]).tolist())
        for chunk in chunks:
            chunk.sequence.computed += chunk.tokens
        return [next(likeliest) if count else None for count in counts]

    def _note(self, sequence: Sequence, chunk: Chunk) -> None:
        """Note which blocks a chunk has filled, and the one before it, as far as others may find them."""
        end = chunk.sequence.computed
        for at in range(max(0, (end - chunk.tokens) // BLOCK - 1), min(end // BLOCK, sequence.sealed)):
            self._held[sequence.blocks[at]] = sequence.chain[at]


def _found(sequence: Sequence, held: dict[int, bytes]) -> int:
    """Count the tokens of a sequence that are in the cache from others, or from before a preemption."""
    count = 0
    for block, link in zip(sequence.blocks[: sequence.sealed], sequence.chain, strict=False):
        if held.get(block) != link:
            break
        count += BLOCK
    return count
