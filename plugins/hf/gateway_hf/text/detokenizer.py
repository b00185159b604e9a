"""Turn token ids into text as they come."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from functools import partial

from tokenizers import Tokenizer

# Enough of the prompt for a decoder to see that the answer does not begin a text, so that it keeps its first space.
_TAIL = 8
INCOMPLETE = "\ufffd"
# A character of UTF-8 has at most four bytes, and so four tokens at most; a longer wait is for nothing.
_CHARACTER = 4
_LONGEST_WAIT = 16


class Detokenizer:
    """Decodes one answer: the pieces together are, byte for byte, what decoding all its ids at once gives.

    A piece waits until its bytes are whole characters; the `hidden` tokens have no text. Only where a vocabulary spells
    bytes one by one (`<0x0A>`) and the model writes bytes that are no text can a piece come out that the whole lacks.

    A token costs the decoding of a few: those said last, for a text may depend on what is before it, and those held.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt_ids: Sequence[int] = (), hidden: AbstractSet[int] = frozenset()
    ) -> None:
        self._tokenizer = tokenizer
        self._decode = partial(tokenizer.decode, skip_special_tokens=False)
        self._hidden = hidden
        self._said, self._held = [token for token in prompt_ids[-_TAIL:] if token not in hidden], list[int]()
        self._begun = self._decode(self._said)
        if self._begun.endswith(INCOMPLETE):
            self._said, self._begun = [], ""

    def feed(self, token: int) -> str:
        """Take the next token and return the text that it completes."""
        if token in self._hidden:
            return ""
        held = self._held
        held.append(token)
        text = self._decode(self._said + held)
        if len(text) <= len(self._begun) or text[-1] == INCOMPLETE:
            return self._wait(text)
        piece = text[len(self._begun) :] if text.startswith(self._begun) else self._new(text)
        self._said, self._held = held, []
        self._begun = self._decode(held)
        return piece

    def flush(self) -> str:
        """Return what was held back, as the whole decoding ends; nothing may be fed after it."""
        return self._new(self._decode(self._said + self._held)) if self._held else ""

    def _wait(self, text: str) -> str:
        """Hold the last token back; of many, say all but what may still become a character, and forget the middle.

        Four tokens at the end hold all that a character can need, and where the text depends on a run of bytes as a
        whole, the four at its beginning have shown that it is no text.
        """
        held = self._held
        if self._tokenizer.id_to_token(held[-1]) is None:  # the model has more ids than the tokenizer has tokens
            held.pop()
        if len(held) < _LONGEST_WAIT:
            return ""
        piece = self._new(text).removesuffix(INCOMPLETE)
        self._said, self._held = [], held[:_CHARACTER] + held[-_CHARACTER:]
        self._begun = self._decode(self._held).removesuffix(INCOMPLETE)
        return piece

    def _new(self, text: str) -> str:
        """Return what of `text` has not been said; the bytes that were a text before may be none any more."""
        if self._said and not text.startswith(self._begun):
            return self._decode(self._held)
        return text[len(self._begun) :]
