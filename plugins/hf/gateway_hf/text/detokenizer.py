"""Turn token ids into text as they come."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

# Enough of the prompt for a decoder to see that the answer does not begin a text, so that it keeps its first space.
_TAIL = 8
INCOMPLETE = "\ufffd"


class Detokenizer:
    """Decodes one answer: the pieces together are, byte for byte, what decoding all its ids at once gives.

    A piece waits until its bytes are whole characters; special tokens have no text, unless they are shown. Only where
    a vocabulary spells bytes one by one (`<0x0A>`) and the model writes bytes that are no text can a piece come out
    that the whole lacks.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int] = (), *, shows_special: bool = False) -> None:
        tail = list(prompt_ids[-_TAIL:])
        if tokenizer.decode(tail).endswith(INCOMPLETE):
            tail = []  # a stream would wait for its end and then say the prompt again
        self._tokenizer = tokenizer
        self._skips = not shows_special
        self._stream = DecodeStream(ids=tail, skip_special_tokens=self._skips)
        self._said, self._held = tail, list[int]()

    def feed(self, token: int) -> str:
        """Take the next token and return the text that it completes."""
        self._held.append(token)
        try:
            text = self._stream.step(self._tokenizer, token)
        except Exception:  # noqa: BLE001 - its one error, of no type of its own: bytes that were a text are none any more
            text = self._tokenizer.decode(self._held, skip_special_tokens=self._skips)
            self._stream = DecodeStream(skip_special_tokens=self._skips)
        if text is None:
            return ""
        self._said, self._held = self._held, []
        return text

    def flush(self) -> str:
        """Return what was held back, as the whole decoding ends; nothing may be fed after it."""
        if not self._held:
            return ""
        begun = self._tokenizer.decode(self._said, skip_special_tokens=self._skips)
        return self._tokenizer.decode(self._said + self._held, skip_special_tokens=self._skips)[len(begun) :]
