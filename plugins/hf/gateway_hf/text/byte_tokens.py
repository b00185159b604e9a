"""Read the bytes of a token from its spelling in the vocabulary."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from tokenizers import Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

_ONE_BYTE = re.compile(r"<0x([0-9A-F]{2})>")

ByteSpeller = Callable[[str], bytes | None]


def byte_speller(tokenizer: Tokenizer) -> ByteSpeller:
    """Return a function from a spelling to its bytes, or to None for a spelling of no bytes.

    A byte-level vocabulary has a character for each byte (GPT-2); others have a token for each (`<0x0A>`, Llama 2).
    """
    decoder = tokenizer.decoder
    kinds = set(_kinds(json.loads(decoder.__getstate__()))) if decoder is not None else set()
    return _from_alphabet if "ByteLevel" in kinds else _from_hexadecimal


_SPELLED: dict[int, str] = bytes_to_unicode()  # type: ignore[no-untyped-call] # so is the library
_BYTES = {character: byte for byte, character in _SPELLED.items()}


def _from_alphabet(spelled: str) -> bytes | None:
    found = [_BYTES.get(character, -1) for character in spelled]
    return None if -1 in found else bytes(found)


def _from_hexadecimal(spelled: str) -> bytes | None:
    found = _ONE_BYTE.fullmatch(spelled)
    return None if found is None else bytes.fromhex(found[1])


def _kinds(decoder: dict[str, Any]) -> Iterator[str]:
    yield decoder["type"]
    for part in decoder.get("decoders", ()):
        yield from _kinds(part)


def longest_token(tokenizer: Tokenizer) -> int:
    """Return the most bytes of text that one token stands for; where spellings are no bytes, the longest spelling's."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    longest = max(vocabulary, key=len, default="")
    if byte_speller(tokenizer) is _from_alphabet and _from_alphabet(longest) is not None:
        return len(longest)
    return max((len(spelled.encode()) for spelled in vocabulary), default=0)
