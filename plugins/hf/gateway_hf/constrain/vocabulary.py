"""A model's tokens as llguidance wants them, where it can have them."""

from collections.abc import Iterable
from typing import NamedTuple

from llguidance import LLTokenizer
from tokenizers import Tokenizer

# Texts that must come back from the tokens as they are.
_PROBES = ('{"name": "Ann", "n": [1, -2.5e3, true, null]}', 'say "yes"\n\n\tor no', "é漢🙂 ß")


class UnconstrainableError(Exception):
    """The tokenizer is none that answers can be constrained with; the message says why."""


class Vocabulary(NamedTuple):
    """A model's tokens, and what they were read from: the tokenizer's JSON, the number of ids, and those that end."""

    tokens: LLTokenizer
    written: str
    size: int
    ends: list[int]


def read_vocabulary(tokenizer: Tokenizer, vocabulary: int, eos_ids: Iterable[int]) -> Vocabulary:
    """Read the tokens of a model with `vocabulary` ids; raise `UnconstrainableError` where that cannot be."""
    ends = sorted(eos_ids)
    if not ends:
        raise UnconstrainableError("the model has no token that ends a text")
    known = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    written, size = tokenizer.to_str(), max(vocabulary, known)
    read = load_vocabulary(written, size, ends)
    for text in _PROBES:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if read.decode_str(ids).lstrip(" ") != text:
            raise UnconstrainableError("the tokens of a text do not spell it")
    return Vocabulary(read, written, size, ends)


def load_vocabulary(written: str, vocabulary: int, ends: list[int]) -> LLTokenizer:
    """Read a tokenizer's JSON; raise `UnconstrainableError` where it is of a kind that is not known."""
    try:
        return LLTokenizer(written, n_vocab=vocabulary, eos_token=ends)
    except BaseException as error:  # a panic of the library is no `Exception`
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        why = " ".join(str(error).split())[:200]
        raise UnconstrainableError(f"its tokenizer is of a kind that is not known: {why}") from error
