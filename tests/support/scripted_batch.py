"""What a batch runs on where no model is wanted: a runner that draws from a script, and generations for it."""

from gateway.engine import Mailbox
from gateway_hf.batch import Generation
from gateway_hf.sequence import Drawn, Sequence
from gateway_hf.terms import Terms
from gateway_hf.writer import Writer


class _Words:
    """A token is its number in brackets."""

    def feed(self, token):
        return f"[{token}]"

    def flush(self):
        return ""


class ScriptedRunner:
    """Draws 0, 1, 2 …; a sequence in `faults` raises its fault at its second draw."""

    def __init__(self):
        self.forgotten = []
        self.faults = {}

    def advance(self, sequence, tokens, terms):
        sequence.computed += tokens
        if sequence.pending:
            return None
        drawn = len(sequence.tokens) - sequence.prompt_tokens
        if drawn == 1 and sequence in self.faults:
            raise self.faults[sequence]
        sequence.tokens.append(drawn)
        return Drawn(drawn)

    def forget(self, sequence):
        self.forgotten.append(sequence)


def make_generation(limit=3, prompt=2):
    terms = Terms(limit=limit)
    return Generation(
        id="a",
        sequence=Sequence([0] * prompt),
        terms=terms,
        writer=Writer(prompt, terms, _Words(), str),
        mailbox=Mailbox(),
        arrived=0.0,
    )
