"""Tokenize a rendered conversation so that only the chat template's own markers become special tokens.

What users wrote is hidden while the template runs wherever it reads like a marker. In the rendered text each marker
then gets an unguessable name, and what was hidden comes back. The tokenizer that reads this shares the model's merges
and rules but knows the markers by those names only, so ordinary text gets exactly the ids that it always gets.
"""

import re
import secrets
from functools import partial

from tokenizers import AddedToken, Tokenizer

from gateway.engine import InvalidRequest


class Markers:
    """The special tokens of a tokenizer, and the other bracketed tokens that its chat template names."""

    def __init__(self, tokenizer: Tokenizer, template: str) -> None:
        added = tokenizer.get_added_tokens_decoder()
        self._ids = {
            token.content: id
            for id, token in added.items()
            if token.special or (token.content.startswith("<") and token.content in template)
        }
        self._nonce = secrets.token_hex(8)
        self._seam = f"<|{self._nonce}|>"
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._lookalike = re.compile(self._pattern.pattern, re.IGNORECASE)
        self._hidden = re.compile(f"{self._nonce}x([0-9]+)x")
        self._tokenizer, self._real = self._renamed(tokenizer, added)

    def hide(self, text: str, hidden: list[str]) -> str:
        """Return `text` with all that reads like a marker moved to `hidden`, in any case: a template may change it."""

        def move(match: re.Match[str]) -> str:
            hidden.append(match[0])
            return f"{self._nonce}x{len(hidden) - 1}x"

        return self._lookalike.sub(move, text)

    def encode(self, rendered: str, hidden: list[str]) -> list[int]:
        """Tokenize what a template made of hidden texts."""
        named = self._pattern.sub(lambda match: self._name(self._ids[match[0]]), rendered)
        ids = self._read(self._hidden.sub(lambda match: hidden[int(match[1])], named))
        if self._owned.isdisjoint(ids):
            return self._restored(ids)
        # Some vocabularies merge plain text into a special token: cut what was hidden in two.
        ids = self._read(self._hidden.sub(lambda match: self._cut(hidden[int(match[1])]), named))
        if self._owned.isdisjoint(ids):
            return self._restored(ids)
        raise InvalidRequest("the messages hold characters that the model reads as a special token", param="messages")
