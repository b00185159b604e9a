"""What the answers of both routes have in common, whole or in chunks.

The head of a chunk is encoded once a stream, so that a chunk of text costs one small encoding and one joining.
"""

import time
from abc import abstractmethod
from functools import cached_property

import msgspec
from msgspec import UNSET, UnsetType, structs

from gateway.api.exchange.constraint import Structured, structured_of
from gateway.api.exchange.dialect import Rendering
from gateway.api.openai.details import Details, asks_details
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
from gateway.api.openai.timings import TokenTimings
from gateway.engine import Answer, Finished, ModelCard, Started, Usage, system_fingerprint

encode = msgspec.json.Encoder().encode


class ChoiceRendering(Rendering):
    """Renders the answers to one request as choices, each by its index."""

    def __init__(self, body: CommonBody, card: ModelCard, answer_id: str) -> None:
        self._id = answer_id
        self._model = card.name
        self._fingerprint = system_fingerprint(card)
        self._created = int(time.time())
        self._has_usage = bool(body.stream_options and body.stream_options.include_usage)
        # An answer without tokens: the engine makes one, which nobody is shown.
        self._is_silent = False
        self._details = Details(body) if asks_details(body) else None
        self._has_ids = bool(body.return_token_ids)
        self._heads: dict[int, bytes] = {}
        self._end = b'],"usage":null}\n\n' if self._has_usage else b"]}\n\n"

    @cached_property
    def _head(self) -> bytes:
        """The beginning of every chunk; a whole answer has none."""
        return b"data: " + encode(self._chunk())[: -len(b"]}")]

    def _note_model(self, started: Started) -> None:
        """Name the model that answers, where that is not the one that was chosen."""
        if started.model is not None:
            self._model, self._fingerprint = started.model, None
            vars(self).pop("_head", None)  # encoded anew, with the name

    def to_last(self, usage: Usage) -> bytes:
        """Encode the chunk with the usage, where it was asked for."""
        if not self._has_usage:
            return b""
        return b"data: %b\n\n" % encode(structs.replace(self._chunk(self._usage(usage)), timings=self._timings(usage)))

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

    def _ids(self, answer: Answer) -> list[int] | UnsetType:
        """Return the ids of an answer's tokens, where they are asked for."""
        if not self._has_ids:
            return UNSET
        return [] if self._is_silent else list(answer.ids)

    def _timings(self, usage: Usage) -> TokenTimings | UnsetType:
        """Say how fast all answers were made, where that is asked for."""
        return UNSET if self._details is None else self._details.timings_of_all(usage)

    def _structured(self, finished: Finished) -> Structured | UnsetType:
        return structured_of(finished) if self.is_structured else UNSET

    def _frame(self, choice: ChunkChoice | TextChoice) -> bytes:
        if self._details is None:
            return b"%b%b%b" % (self._head, encode(choice), self._end)
        return b"data: %b\n\n" % encode(self._detailed(choice, self._details))

    def _detailed(self, choice: ChunkChoice | TextChoice, details: Details) -> ChatChunk | CompletionReply:
        """Make a chunk with all that is asked for beside the text."""
        index = choice.index
        usage = self._usage(details.usage(index)) if details.has_usage else None if self._has_usage else UNSET
        if ids := details.take_ids(index):
            choice = structs.replace(choice, token_ids=ids)
        prompt, chunk = details.take_prompt(index), self._chunk()
        if isinstance(choice, ChunkChoice):
            chunk = structs.replace(chunk, prompt_token_ids=prompt)
        else:
            choice = structs.replace(choice, prompt_token_ids=prompt)
        return structs.replace(chunk, choices=[choice], usage=usage, timings=details.timings(index))
