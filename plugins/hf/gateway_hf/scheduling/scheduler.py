"""Which sequences run, and what this step computes: ints and lists, no tensors.

A sequence waits in the queue until a place and room in the cache are free: higher priority first, then first come,
first served. It keeps both until it leaves, or until one that is before it finds no block for its next token: then
the last one is preempted, which goes back to the front of the queue and is computed again later.

A sequence on standby comes after all others: it is admitted and computed only while none of them runs, and makes room
for any. What it has in the cache stays as long as there is room.

Prefill in chunks beside decodes is that of Sarathi (Agrawal et al. 2023).
"""

import bisect
from typing import NamedTuple

from gateway_hf.scheduling.blocks import Blocks
from gateway_hf.scheduling.pace import StepPace
from gateway_hf.scheduling.row_cost import RowCost
from gateway_hf.scheduling.sequence import Sequence

# Rows of prompts that a step keeps logits of: 128 MiB where the vocabulary has 256 Ki tokens.
_SCORED = 128
# Tokens of a step of those on standby: a request that comes in the middle of it waits for its end.
_STANDBY = 64


class Chunk(NamedTuple):
    """The next `tokens` tokens of a sequence: pending ones, and after the last of these its whole draft."""

    sequence: Sequence
    tokens: int

    @property
    def draws(self) -> int:
        """After how many of its last tokens one may be drawn: none while it leaves tokens pending."""
        return max(0, self.tokens - self.sequence.pending + 1)

    @property
    def wanted(self) -> int:
        """For how many of its last tokens logits are wanted: to draw from, or to score the tokens behind them by."""
        sequence = self.sequence
        if not sequence.scoring:
            return self.draws
        # What was preempted is read again, but not scored again.
        return max(0, sequence.computed + self.tokens - len(sequence.scores))


class Scheduler:
    """Hands out `places` and `blocks`, and plans steps of at most `most` tokens, which are more than the places.

    A step decodes every sequence that can, and reads of prompts what is left of its budget, as far as the others can
    wait: a flow of prompts never keeps them from decoding, nor a full house a prompt from being read. `preemptions`
    counts the sequences that had to make room.
    """

    def __init__(self, places: int, most: int, blocks: Blocks) -> None:
        self.preemptions = 0
        self._places = places
        self._pace = StepPace(max(most, places + 1), places)
        self._cost = RowCost()
        self._planned = 0, 0
        self._blocks = blocks
        self._queue: list[Sequence] = []
        self._running: list[Sequence] = []  # by rank, then in the order of admission: the last is preempted first
        self._outgrown: list[Sequence] = []

    @property
    def waiting(self) -> int:
        """How many wait in the queue."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """How many have a place."""
        return len(self._running)

    @property
    def cached(self) -> int:
        """The tokens of the cache that running sequences hold; any thread may read it."""
        return self._blocks.used * self._blocks.size

    def found(self, sequence: Sequence) -> int:
        """Count the tokens of a sequence that the cache has now; any thread may ask."""
        return self._blocks.found(sequence)

    def add(self, sequence: Sequence) -> None:
        """Put a sequence into the queue, behind those of its priority."""
        bisect.insort_right(self._queue, sequence, key=_rank)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out of its place or out of the queue; harmless when it is in neither."""
        for where in (self._running, self._queue):
            if sequence in where:
                where.remove(sequence)
        self._blocks.release(sequence)

    def scrap(self, sequence: Sequence) -> None:
        """Remove a sequence that failed, with what it left in the cache."""
        self._blocks.scrap(sequence)
        self.remove(sequence)

    def seal(self, sequence: Sequence) -> None:
        """Let others reuse what was computed of a sequence."""
        self._blocks.seal(sequence)

    def admit(self) -> list[Sequence]:
        """Give free places to the head of the queue, as long as it fits into the cache; return those that got one.

        A head that does not fit holds back those behind it, and takes the room of those on standby.
        """
        admitted: list[Sequence] = []
        while self._queue and self._may_enter(self._queue[0]):
            if len(self._running) < self._places and self._enter(self._queue[0]):
                sequence = self._queue.pop(0)
                bisect.insort_right(self._running, sequence, key=_rank)
                admitted.append(sequence)
            elif self._running and self._running[-1].standby and not self._queue[0].standby:
                self._preempt()
            else:
                break
        return admitted

    def decoding(self) -> list[Sequence]:
        """List the sequences that decode in the next step, and so may have a draft."""
        return [sequence for sequence in self._computed if not sequence.prefilling]

    def plan(self) -> list[Chunk]:
        """Plan the next step, at most one chunk a sequence; it is empty only when no sequence has a place."""
        self._make_room()
        decodes = self.decoding()
        stands_by = bool(self._running) and self._running[0].standby
        prefilling = [each for each in self._computed if each.prefilling]
        waited = self._pace.waited(len(decodes), (each.pending for each in prefilling if _reads_prompt(each)))
        # In a burst a guess would take the place of a prompt's token, which is surely wanted.
        guesses = self._keep_drafts(decodes, 0 if waited else (self._pace.sure - len(decodes)) // 2)
        rows = len(decodes) + guesses
        room = min(_STANDBY, self._pace.sure - rows) if stands_by else self._pace.room(rows, waited)
        forced = sum(each.pending for each in prefilling if not _reads_prompt(each))
        prefills = self._prefills(max(room, min(forced, self._pace.sure - rows)))
        self._planned = rows, sum(chunk.tokens for chunk in prefills)
        return [*[Chunk(sequence, 1 + len(sequence.draft)) for sequence in decodes], *prefills]

    def took(self, seconds: float) -> None:
        """Learn what the planned step took, so that later ones read and guess as much as answers can wait for."""
        rows, prompts = self._planned
        self._pace.learn(rows, prompts, seconds)
        if rows and not prompts:
            self._cost.learn(rows, seconds)

    def price_of_guess(self, answers: int, seconds: float = 0.0) -> float:
        """Return what a guess that takes so many seconds to make costs beside so many answers, as `RowCost` says."""
        return self._cost.price(answers, seconds)

    def reserve(self, sequence: Sequence, guesses: int) -> bool:
        """Make room for guesses behind a sequence that decodes; False where others may need it for their tokens."""
        return self._blocks.free > len(self._running) and self._blocks.grow(sequence, sequence.pending + guesses)

    def outgrown(self) -> list[Sequence]:
        """Hand over those, already removed, that the whole cache cannot hold."""
        outgrown, self._outgrown = self._outgrown, []
        return outgrown

    @property
    def _computed(self) -> list[Sequence]:
        """The running sequences that the next step computes: those on standby where there are no others."""
        running = self._running
        if not running or running[0].standby or not running[-1].standby:
            return running
        return [sequence for sequence in running if not sequence.standby]

    def _may_enter(self, sequence: Sequence) -> bool:
        return not sequence.standby or not self._running or self._running[0].standby

    def _enter(self, sequence: Sequence) -> bool:
        """Take the room for all that is pending, and a block more to begin decoding with; alone, it does without."""
        for spare in (self._blocks.size, 0):
            if self._blocks.fits(sequence, len(sequence.tokens) + spare):
                self._reuse(sequence)
                return self._blocks.grow(sequence, sequence.pending + spare)
            if self._running:
                return False
        self._outgrown.append(self._queue.pop(0))
        return False

    def _reuse(self, sequence: Sequence) -> None:
        found = self._blocks.reuse(sequence)
        if not sequence.preempted:
            sequence.cached += found

    def _make_room(self) -> None:
        """Let each have room for what is pending, which grows as it decodes, in order; the last ones pay for it."""
        at = 0
        while at < len(self._running):
            sequence = self._running[at]
            if self._blocks.grow(sequence, sequence.pending):
                at += 1
            elif len(self._running) == 1:
                self.remove(sequence)
                self._outgrown.append(sequence)
            else:
                self._preempt()

    def _preempt(self) -> None:
        sequence = self._running.pop()
        self._blocks.release(sequence)
        sequence.draft = []
        sequence.preempted += 1
        self.preemptions += not sequence.standby  # which gives way by design
        bisect.insort_left(self._queue, sequence, key=_rank)

    def _keep_drafts(self, decodes: list[Sequence], budget: int) -> int:
        """Drop the drafts that the budget or the cache has no room for; return how many tokens are kept."""
        kept = 0
        for sequence in decodes:
            guesses = len(sequence.draft)
            if not guesses:
                continue
            if kept + guesses <= budget and self._blocks.grow(sequence, 1 + guesses):
                kept += guesses
            else:
                sequence.draft = []
        return kept

    def _prefills(self, room: int) -> list[Chunk]:
        chunks: list[Chunk] = []
        scored = _SCORED
        # Tokens that a grammar forced are a few, and their answer waits for them: they go before prompts.
        for sequence in sorted([each for each in self._computed if each.prefilling], key=_reads_prompt):
            if not room:
                break
            if sequence.scoring and not scored:
                continue
            # Whoever came with the same prompt a moment earlier may have read it by now.
            self._reuse(sequence)
            tokens = min(room, sequence.pending)
            if sequence.scoring:
                tokens = min(tokens, scored)
                scored -= tokens
            chunks.append(Chunk(sequence, tokens))
            room -= tokens
        return chunks


def _reads_prompt(sequence: Sequence) -> bool:
    return sequence.computed < sequence.prompt_tokens


def _rank(sequence: Sequence) -> tuple[bool, int]:
    return sequence.standby, -sequence.priority
