"""What the answers of both routes have in common, whole or in chunks.

The head of a chunk is encoded once a stream, so that a chunk of text costs one small encoding and one joining.
"""

import time
from abc import abstractmethod
from functools import cached_property, lru_cache
from hashlib import blake2b

import msgspec
from msgspec import UNSET, UnsetType

from gateway.api.exchange.constraint import Structured, structured_of
from gateway.api.exchange.dialect import Rendering
from gateway.api.openai.reply import (
    AnswerTokens,
    CachedTokens,
    ChatChunk,
    ChunkChoice,
    CompletionReply,
    CompletionUsage,
    TextChoice,
)
from gateway.api.openai.shared import CommonBody
from gateway.engine import Finished, ModelCard, Usage

encode = msgspec.json.Encoder().encode


class ChoiceRendering(Rendering):
    """Renders the answers to one request as choices, each by its index."""

    def __init__(self, body: CommonBody, card: ModelCard, answer_id: str) -> None:
        self._id = answer_id
        self._model = card.name
        self._fingerprint = _fingerprint(card.fingerprint) if card.fingerprint else None
        self._created = int(time.time())
        self._has_usage = bool(body.stream_options and body.stream_options.include_usage)
        # An answer without tokens: the engine makes one, which nobody is shown.
        self._is_silent = False
        self._heads: dict[int, bytes] = {}
        self._end = b'],"usage":null}\n\n' if self._has_usage else b"]}\n\n"

    @cached_property
    def _head(self) -> bytes:
        """The beginning of every chunk; a whole answer has none."""
        return b"data: " + encode(self._chunk())[: -len(b"]}")]

    def to_last(self, usage: Usage) -> bytes:
        """Encode the chunk with the usage, where it was asked for."""
        return b"data: %b\n\n" % encode(self._chunk(self._usage(usage))) if self._has_usage else b""

    @abstractmethod
    def _chunk(self, usage: CompletionUsage | None = None) -> ChatChunk | CompletionReply:
        """Make a chunk without choices."""

    def _usage(self, usage: Usage) -> CompletionUsage:
        told = 0 if self._is_silent else usage.completion_tokens
        return CompletionUsage(
            usage.prompt_tokens,
            told,
            usage.prompt_tokens + told,
            CachedTokens(usage.cached_tokens),
            AnswerTokens(usage.reasoning_tokens),
        )

    def _structured(self, finished: Finished) -> Structured | UnsetType:
        return structured_of(finished) if self.is_structured else UNSET

    def _frame(self, choice: ChunkChoice | TextChoice) -> bytes:
        return b"%b%b%b" % (self._head, encode(choice), self._end)


@lru_cache(64)
def _fingerprint(fingerprint: str) -> str:
    """Write in a few letters which weights and which engine answer."""
    return f"fp_{blake2b(fingerprint.encode(), digest_size=5).hexdigest()}"
