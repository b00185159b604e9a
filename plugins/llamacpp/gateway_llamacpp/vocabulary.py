"""What each token of a model stands for, from the vocabulary in its GGUF file."""

import codecs
from collections.abc import Iterator, Sequence
from functools import cache

from gateway.engine import InvalidRequest, TokenLogprob, TokenSpelling
from gateway_llamacpp.gguf_header import GgufHeader

# GGUF's numbers for the types of a token.
_CONTROL, _USER_DEFINED, _BYTE = 3, 4, 6
_SPECIAL = frozenset({_CONTROL, _USER_DEFINED})
_BLANK = "\u2581"  # how SentencePiece writes a space


class GgufVocabulary:
    """The tokens of a model; where `is_known` is false, their bytes are not, for the tokenizer is of another kind."""

    def __init__(self, header: GgufHeader) -> None:
        tokens, types = (header.values.get(f"tokenizer.ggml.{key}") for key in ("tokens", "token_type"))
        self._tokens: list[bytes] = tokens if isinstance(tokens, list) else []
        self._types: Sequence[object] = types if isinstance(types, tuple) else ()
        self._kind = header.text("tokenizer.ggml.model")
        self._leads = self._kind == "llama" and header.values.get("tokenizer.ggml.add_space_prefix", True) is True
        self.size = len(self._tokens)
        self.is_known = self._kind in ("gpt2", "llama") and self.size > 0
        self.specials = tuple(
            text
            for id, text in enumerate(self._tokens)  # noqa: A001 - as the field calls it
            if self._type(id) in _SPECIAL and text
        )

    def check(self, ids: Sequence[int], param: str) -> None:
        """Raise `InvalidRequest` for an id that is no token."""
        for token in ids:
            if not 0 <= token < self.size:
                raise InvalidRequest(f"{token} is no token: there are {self.size}", param=param)

    def data(self, token: int) -> bytes:
        """Return the bytes that a token stands for; of a special one, its name."""
        text, kind = self._tokens[token], self._type(token)
        if kind in _SPECIAL or not self.is_known:
            return text
        if kind == _BYTE:
            return bytes([int(text[3:5], 16)])  # <0x0A>
        if self._kind == "llama":
            return text.decode(errors="replace").replace(_BLANK, " ").encode()
        alphabet = _alphabet()
        return b"".join(alphabet.get(letter, letter.encode()) for letter in text.decode(errors="replace"))

    def pieces(self, ids: Sequence[int]) -> Iterator[str]:
        """Yield the text of each token; a character of several is in the piece of its last."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for at, data in enumerate(self._spelled(ids)):
            yield decoder.decode(data, final=at == len(ids) - 1)

    def spellings(self, ids: Sequence[int]) -> tuple[TokenSpelling, ...]:
        """Return how the vocabulary writes each token, and its bytes."""
        texts = [self._tokens[token].decode(errors="replace") for token in ids]
        return tuple(TokenSpelling(text, data) for text, data in zip(texts, self._spelled(ids), strict=True))

    def scored(self, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        """Return a token with its log probability."""
        data = self.data(token)
        try:
            return TokenLogprob(token, data.decode(), logprob, top)
        except UnicodeDecodeError:
            return TokenLogprob(token, data.decode(errors="replace"), logprob, top, data)

    def is_control(self, token: int) -> bool:
        """Tell whether a token is never shown in an answer."""
        return self._type(token) == _CONTROL

    def is_whole(self, token: int) -> bool:
        """Tell whether a token is made of whole characters."""
        return self.scored(token, 0.0).raw is None

    def _type(self, token: int) -> object:
        return self._types[token] if token < len(self._types) else None

    def _spelled(self, ids: Sequence[int]) -> Iterator[bytes]:
        """Yield the bytes of each token, without the space that the tokenizer puts before a text."""
        for at, token in enumerate(ids):
            data = self.data(token)
            yield data.removeprefix(b" ") if self._leads and at == 0 else data


@cache
def _alphabet() -> dict[str, bytes]:
    """Return the byte of each letter in which GPT-2's vocabulary writes bytes: printable ones are their own."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(byte): bytes([byte]) for byte in own}
    others = sorted(set(range(0x100)) - set(own))
    return letters | {chr(0x100 + number): bytes([byte]) for number, byte in enumerate(others)}
