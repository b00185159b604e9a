"""Say tokens one by one as they read inside a text, whose decoder may treat the first of them otherwise."""

from functools import cached_property
from typing import NamedTuple

from gateway.engine import Completion, Prompt
from gateway_hf.text.codec import TextCodec
from gateway_hf.text.detokenizer import INCOMPLETE
from gateway_hf.text.writer import TokenName


class _Usual(NamedTuple):
    """A short text as the tokenizer reads it: its own tokens, and those put before and behind them."""

    ids: list[int]
    before: list[int]
    behind: list[int]


class TokenNames:
    """Names tokens for one request; used by one thread at a time."""

    def __init__(self, text: TextCodec) -> None:
        self._text = text
        self._known: dict[int, TokenName] = {}

    def __call__(self, token: int) -> TokenName:
        """Say what a token adds to a text; bytes that are no whole character are U+FFFD, and said beside."""
        if token not in self._known:
            # By itself it would lose the space that it begins with, where a space is part of the word behind it.
            text = self._text.detokenize((*self._usual.ids, token))[-1]
            raw = self._text.token_bytes(token) if INCOMPLETE in text else None
            self._known[token] = TokenName(text, raw)
        return self._known[token]

    def of_prompt(self, prompt: Prompt, ids: list[int]) -> tuple[str, ...]:
        """Say what each token adds to the prompt's text; nothing, where the tokenizer put it in by itself.

        A character that takes several tokens comes with the last of them.
        """
        if not isinstance(prompt, Completion) or not prompt.add_special:
            return self._text.detokenize(ids)
        _, before, behind = self._usual
        # Of a prompt that was cut they are gone on one side.
        first = len(before) if ids[: len(before)] == before else 0
        end = len(ids) - len(behind) if behind and ids[first:][-len(behind) :] == behind else len(ids)
        return (*[""] * first, *self._text.detokenize(ids[first:end]), *[""] * (len(ids) - end))

    @cached_property
    def _usual(self) -> _Usual:
        ids, whole = (self._text.tokenize(Completion("a", add_special=adds)) for adds in (False, True))
        first = next((at for at in range(len(whole)) if whole[at : at + len(ids)] == ids), 0)
        return _Usual(ids, whole[:first], whole[first + len(ids) :])
