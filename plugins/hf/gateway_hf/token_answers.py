"""The questions about tokens, which every engine here answers in one way: by its codec, in the threads that read."""

import functools
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.engine import Chat, Engine, Prompt, TokenSpelling
from gateway_hf.reader import Reader, size_of, size_of_ids
from gateway_hf.text.codec import TextCodec


class TextSide(NamedTuple):
    """What reads the texts of a loaded model."""

    text: TextCodec
    reader: Reader


class TokenAnswers(Engine):
    """An engine that answers questions about tokens."""

    @abstractmethod
    def _reading(self) -> TextSide:
        """Return what reads; raise `Unavailable` while the model is not loaded."""

    async def count_tokens(self, model: str, prompt: Prompt) -> int:
        """Count the tokens that the model would read."""
        return len(await self.tokenize(model, prompt))

    async def tokenize(self, model: str, prompt: Prompt) -> tuple[int, ...]:
        """Return what the model would read."""
        del model
        text, reader = self._reading()
        return tuple(await reader.read(functools.partial(text.tokenize, prompt), size_of(prompt)))

    async def detokenize(self, model: str, ids: Sequence[int]) -> tuple[str, ...]:
        """Return the text of each token."""
        del model
        text, reader = self._reading()
        return await reader.read(functools.partial(text.detokenize, ids), size_of_ids(len(ids)))

    async def spell(self, model: str, ids: Sequence[int]) -> tuple[TokenSpelling, ...]:
        """Return how the vocabulary spells each token."""
        del model
        text, reader = self._reading()
        return await reader.read(functools.partial(text.spell, ids), size_of_ids(len(ids)))

    async def tokenizer_info(self, model: str) -> dict[str, Any]:
        """Return the tokenizer's configuration."""
        del model
        return self._reading().text.describe()

    async def render(self, model: str, chat: Chat) -> str:
        """Return what the template writes."""
        del model
        text, reader = self._reading()
        return await reader.read(functools.partial(text.render, chat), size_of(chat))
