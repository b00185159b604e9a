"""What a batch runs on where no model is wanted: a runner that draws from a script, and generations for it.

The runner keeps a cache like a model's: what it draws from is what it reads back through a sequence's blocks, so a
block that was lost, shared or written over changes the text.
"""

from hashlib import blake2b

from gateway.engine import Finished, Mailbox
from gateway_hf.batch import Generation
from gateway_hf.sampling.terms import Terms
from gateway_hf.scheduling.sequence import Drawn, Sequence
from gateway_hf.text.writer import Writer

SIZE = 4


class _Words:
    """A token is its number in brackets."""

    def feed(self, token):
        return f"[{token}]"

    def flush(self):
        return ""


def count(tokens, prompt_tokens):
    """Draw 0, 1, 2 …"""
    return len(tokens) - prompt_tokens


def hashed(tokens, _, few=50):
    """Draw what depends on every token so far."""
    return blake2b(repr(tokens).encode()).digest()[0] % few


def answer(prompt, limit, draw):
    """Say what a sequence alone in the world would draw."""
    tokens = list(prompt)
    for _ in range(limit):
        tokens.append(draw(tokens, len(prompt)))
    return tokens[len(prompt) :]


class ScriptedRunner:
    """Draws by a script; a sequence in `faults` raises its fault, or has it for an outcome, at its second draw."""

    def __init__(self, draw=count, size=SIZE):
        self.forgotten = []
        self.joined = []
        self.faults = {}
        self.steps = []
        self._draw = draw
        self._size = size
        self._memory = {}

    def join(self, sequence, terms, guide=None):
        assert isinstance(terms, Terms)
        self.joined.append(sequence)

    def run(self, chunks):
        self.steps.append([(sequence, tokens) for sequence, tokens in chunks])
        return [self._advance(sequence, tokens) for sequence, tokens in chunks]

    def forget(self, sequence):
        self.forgotten.append(sequence)

    def read(self, sequence, end):
        """Say what the cache holds of a sequence; a position is remembered with its token."""
        slots = [self._slot(sequence, position) for position in range(end)]
        positions, tokens = zip(*[self._memory[slot] for slot in slots], strict=True)
        assert positions == tuple(range(end))
        return list(tokens)

    def _slot(self, sequence, position):
        return sequence.blocks[position // self._size], position % self._size

    def _write(self, sequence, position, token):
        self._memory[self._slot(sequence, position)] = position, token

    def _advance(self, sequence, tokens):
        guesses = sequence.draft
        end = sequence.computed + tokens - len(guesses)
        assert sequence.computed < end <= len(sequence.tokens)
        assert not guesses or end == len(sequence.tokens)
        for position, token in enumerate([*sequence.tokens[sequence.computed : end], *guesses], sequence.computed):
            self._write(sequence, position, token)
        sequence.computed = end
        if sequence.pending:
            return []
        if len(sequence.tokens) == sequence.prompt_tokens + 1 and (fault := self.faults.get(sequence)):
            if isinstance(fault, Exception):
                return fault
            raise fault
        return self._draw_all(sequence, guesses)

    def _draw_all(self, sequence, guesses):
        drawn = []
        for guess in [*guesses, None]:
            token = self._draw(self.read(sequence, len(sequence.tokens)), sequence.prompt_tokens)
            sequence.tokens.append(token)
            sequence.computed = len(sequence.tokens) - 1
            drawn.append(Drawn(token))
            if token != guess:
                break
        return drawn


def make_generation(limit=3, prompt=2, *, tokens=None, priority=0, salt="", **terms):
    tokens = [0] * prompt if tokens is None else list(tokens)
    terms = Terms(limit=limit, **terms)
    return Generation(
        id="a",
        sequence=Sequence(tokens, priority, salt),
        terms=terms,
        writer=Writer(len(tokens), terms, _Words(), str),
        mailbox=Mailbox(),
        arrived=0.0,
    )


def events_of(letters, generation):
    return [event for mailbox, event in letters if mailbox is generation.mailbox]


def run_all(batch, most=10_000):
    """Step until nobody is left."""
    letters = []
    while batch:
        letters += batch.step()
        most -= 1
        assert most, "it does not end"
    return letters


def text_of(letters, generation):
    """Say the text of a whole answer."""
    _, *deltas, finished = events_of(letters, generation)
    assert isinstance(finished, Finished)
    return "".join(delta.text for delta in deltas)


def words(tokens):
    return "".join(f"[{token}]" for token in tokens)
