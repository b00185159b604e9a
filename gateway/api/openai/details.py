"""What an answer tells beside its text where that is asked for: ids of tokens, its usage so far, how fast it is.

A stream that tells any of it encodes every chunk as a whole. One that does not, knows nothing of it.
"""

import dataclasses
from collections.abc import Mapping

from msgspec import UNSET, UnsetType

from gateway.api.openai.shared import CommonBody
from gateway.api.openai.timings import TokenClock, TokenTimings
from gateway.engine import Answer, Delta, GenerateEvent, Started, TokenDelta, ToolDelta, Usage


@dataclasses.dataclass(slots=True)
class AnswerProgress:
    """How far one answer is: its tokens so far, and the ids of those that no chunk has told."""

    started: Started
    clock: TokenClock
    tokens: int = 0
    ids: list[int] = dataclasses.field(default_factory=list)
    is_told: bool = False


class Details:
    """Keeps the progress of each answer of one request, by its index, and says what of it a chunk tells."""

    def __init__(self, body: CommonBody) -> None:
        options = body.stream_options
        self.has_ids = bool(body.return_token_ids)
        self.has_usage = bool(options and options.include_usage and options.continuous_usage_stats)
        self._has_timings = bool(body.timings_per_token)
        self._progress: dict[int, AnswerProgress] = {}

    def begin(self, started: Started, index: int = 0) -> None:
        """Take note that an answer begins; of whole answers the first one counts."""
        self._progress.setdefault(index, AnswerProgress(started, TokenClock(started)))

    def note(self, index: int, event: GenerateEvent) -> None:
        """Take note of an event before it is rendered."""
        if isinstance(event, Started):
            self.begin(event, index)
        elif isinstance(event, Delta | ToolDelta):
            progress = self._progress[index]
            progress.tokens += event.tokens
            if isinstance(event, TokenDelta):
                progress.ids += event.ids

    def take_ids(self, index: int) -> list[int]:
        """Return the ids of the tokens since the last chunk."""
        progress = self._progress[index]
        ids, progress.ids = progress.ids, []
        return ids

    def take_prompt(self, index: int) -> list[int] | UnsetType:
        """Return the ids of the prompt, for the first chunk of an answer alone."""
        progress = self._progress[index]
        if progress.is_told or not self.has_ids:
            return UNSET
        progress.is_told = True
        return list(progress.started.prompt_ids or ())

    def usage(self, index: int) -> Usage:
        """Count what an answer used so far."""
        progress = self._progress[index]
        return Usage(progress.started.prompt_tokens or 0, progress.tokens, progress.started.cached_tokens)

    def timings(self, index: int) -> TokenTimings | UnsetType:
        """Say how fast an answer is, where that is asked for."""
        return self._progress[index].clock.read(self._progress[index].tokens) if self._has_timings else UNSET

    def timings_of_all(self, usage: Usage) -> TokenTimings | UnsetType:
        """Say how fast all answers together were; the prompt is that of the first."""
        first = next(iter(self._progress.values()), None)
        return UNSET if first is None or not self._has_timings else first.clock.read(usage.completion_tokens)


def asks_details(body: CommonBody) -> bool:
    """Tell whether a body asks for any of it."""
    return bool(body.return_token_ids or body.timings_per_token) or Details(body).has_usage


def prompt_ids(answers: Mapping[int, Answer]) -> list[int]:
    """Return the ids of the prompt that the answers share."""
    return list(next(iter(answers.values())).started.prompt_ids or ())
