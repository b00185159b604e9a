"""Fold a stream of events into one answer."""

import math
from collections.abc import AsyncIterable

from msgspec import Struct

from gateway.engine.errors import EngineError
from gateway.engine.events import Delta, Finished, GenerateEvent, Started, TokenDelta, TokenLogprob, ToolDelta
from gateway.engine.tools import ToolCall


class Answer(Struct, frozen=True, kw_only=True):
    """A whole generation."""

    started: Started
    finished: Finished
    text: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    ids: tuple[int, ...] = ()

    @property
    def mean_logprob(self) -> float:
        """The log probability of its tokens on average; minus infinity where none is known."""
        known = [token.logprob for token in self.logprobs]
        mean = sum(known) / len(known) if known else math.nan
        return -math.inf if math.isnan(mean) else mean


class Fold:
    """Takes the events of one stream, in order, and makes an `Answer` of them."""

    def __init__(self) -> None:
        self._started: Started | None = None
        self._finished: Finished | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._ids: list[int] = []
        self._calls: dict[int, ToolCall] = {}

    def add(self, event: GenerateEvent) -> None:
        """Take the next event."""
        match event:
            case Started():
                self._started = event
            case Delta():
                self._text.append(event.text)
                self._reasoning.append(event.reasoning)
                self._logprobs.extend(event.logprobs)
                if type(event) is TokenDelta:
                    self._ids.extend(event.ids)
            case ToolDelta():
                call = self._calls.get(event.index, ToolCall(event.id, event.name, ""))
                self._calls[event.index] = ToolCall(call.id, call.name, call.arguments + event.arguments)
            case Finished():
                self._finished = event

    def answer(self) -> Answer:
        """Return the answer; raise `EngineError` when the stream was cut off."""
        if self._started is None or self._finished is None:
            raise EngineError("the stream ended before it was finished")
        return Answer(
            started=self._started,
            finished=self._finished,
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            tool_calls=tuple(call for _, call in sorted(self._calls.items())),
            logprobs=tuple(self._logprobs),
            ids=tuple(self._ids),
        )


async def collect(events: AsyncIterable[GenerateEvent]) -> Answer:
    """Read a stream to its end; raises what the stream raises, or `EngineError` when it was cut off."""
    fold = Fold()
    async for event in events:
        fold.add(event)
    return fold.answer()
