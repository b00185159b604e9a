"""Tokenize a rendered conversation so that only the chat template's own markers become special tokens.

What users wrote is hidden while the template runs wherever it reads like a marker. In the rendered text each marker
then gets an unguessable name, and what was hidden comes back. The tokenizer that reads this shares the model's merges
and rules but knows the markers by those names only, so ordinary text gets exactly the ids that it always gets.
"""

import json
import re
import secrets
from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import Unigram

from gateway.engine import InvalidRequest
from gateway_hf.text.ids import ids_of

_SEAM = "seam"
# Characters of no meaning and no case, of which two at random enclose what stands for a hidden text.
_PRIVATE = range(0x100000, 0x10FFFE)


class Markers:
    """The special tokens of a tokenizer, and the other bracketed tokens that its chat template names."""

    def __init__(self, tokenizer: Tokenizer, template: str) -> None:
        added = tokenizer.get_added_tokens_decoder()
        special = {token.content: number for number, token in added.items() if token.special}
        named = {
            token.content: number
            for number, token in added.items()
            if token.content.startswith("<") and token.content in template
        }
        self._ids = special | named
        self._owned = frozenset(self._ids.values())
        self._forbidden = self._owned - _unknown(tokenizer, template)
        self._nonce = secrets.token_hex(8)
        self._marker = re.compile(_any_of(self._ids))
        # In any case, for a template may change it. What an assistant said may hold markers of its own: `<think>`.
        self._unwritten = re.compile(_any_of(self._ids), re.IGNORECASE)
        self._unsaid = re.compile(_any_of(special), re.IGNORECASE)
        self._brackets = [chr(each) for each in secrets.SystemRandom().sample(_PRIVATE, 2)]
        before, behind = self._brackets
        self._hidden = re.compile(f"{before}{self._nonce}x([0-9]+){behind}")
        self._tokenizer = self._renamed(tokenizer, added)
        self._real = self._real_ids(added)
        self._seam = self._tokenizer.token_to_id(self._name(_SEAM))

    def hide(self, role: str, text: str, hidden: list[str]) -> str:
        """Return `text` with all that reads like a marker moved to `hidden`."""

        def move(match: re.Match[str]) -> str:
            hidden.append(match[0])
            before, behind = self._brackets
            return f"{before}{self._nonce}x{len(hidden) - 1}{behind}"

        return (self._unsaid if role == "assistant" else self._unwritten).sub(move, text)

    def are_whole(self, rendered: str) -> bool:
        """Tell whether a template has left whole what stands for hidden parts, or out: a cut one would show."""
        rest = self._hidden.sub("", rendered)
        return not any(bracket in rest for bracket in self._brackets)

    def show(self, rendered: str, hidden: list[str]) -> str:
        """Return what a template made of texts with hidden parts, as if none had been hidden."""
        return self._shown(rendered, hidden, "")

    def encode(self, rendered: str, hidden: list[str]) -> list[int]:
        """Tokenize what a template made of texts with hidden parts."""
        named = self._marker.sub(lambda match: self._name(self._ids[match[0]]), rendered)
        # Some vocabularies merge plain text into a special token: a seam in what was hidden prevents it.
        for seam in ("", self._name(_SEAM)):
            ids = ids_of(self._tokenizer, self._shown(named, hidden, seam), add_special=False)
            if self._forbidden.isdisjoint(ids):
                return [self._real.get(number, number) for number in ids if number != self._seam]
        raise InvalidRequest("the messages hold text that the model reads as a special token", param="messages")

    def _shown(self, text: str, hidden: list[str], seam: str) -> str:
        """Bring back what was hidden, with a seam behind its first character."""

        def bring(match: re.Match[str]) -> str:
            original = hidden[int(match[1])]
            return original[0] + seam + original[1:]

        return self._hidden.sub(bring, text)

    def _name(self, marker: int | str) -> str:
        return f"<|{self._nonce}:{marker}|>"

    def _renamed(self, tokenizer: Tokenizer, added: dict[int, AddedToken]) -> Tokenizer:
        """Make a tokenizer of the same rules that knows the markers by their names only."""
        renamed = Tokenizer(tokenizer.model)
        renamed.normalizer, renamed.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
        # New ids have to begin behind the last real one.
        taken = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        renamed.add_special_tokens([self._name(f"-{n}") for n in range(taken - renamed.get_vocab_size())])
        renamed.add_special_tokens([self._name(_SEAM), *(self._alias(number, added[number]) for number in self._owned)])
        renamed.add_tokens([token for number, token in added.items() if number not in self._owned])
        return renamed

    def _alias(self, number: int, token: AddedToken) -> AddedToken:
        return AddedToken(
            self._name(number),
            single_word=token.single_word,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            normalized=False,
        )

    def _real_ids(self, added: dict[int, AddedToken]) -> dict[int, int]:
        names = {self._name(real) if real in self._owned else token.content: real for real, token in added.items()}
        known = self._tokenizer.get_added_tokens_decoder()
        return {number: names[token.content] for number, token in known.items() if token.content in names}


def _unknown(tokenizer: Tokenizer, template: str) -> set[int | None]:
    """Return the token that stands for unknown text, which is no marker unless the template writes it."""
    content = getattr(tokenizer.model, "unk_token", None)
    if isinstance(tokenizer.model, Unigram):  # alone it does not show its token, and names it by its number
        number = json.loads(tokenizer.to_str())["model"]["unk_id"]
        content = None if number is None else tokenizer.id_to_token(number)
    return set() if content is None or content in template else {tokenizer.token_to_id(content)}


def _any_of(texts: Iterable[str]) -> str:
    """Write the pattern of any of `texts`, the longest first; of none, a pattern that never matches."""
    return "|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)"
