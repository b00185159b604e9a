"""Where answers are kept, and how they are written there."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import cast

import msgspec
from msgspec import Struct, structs

from gateway.engine import Delta, Finished, FinishReason, GenerateEvent, Started, ToolDelta, Usage, continued, join_run

# Deltas in one piece of a stream that is told again: few enough to look like a stream, enough to cost little.
_PIECE = 8
_WHOLE = frozenset({FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS})


class KeptAnswer(Struct, frozen=True, array_like=True):
    """A whole answer; `trace` is the W3C traceparent under which it was made, if there was one."""

    events: list[GenerateEvent]
    trace: str | None


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(KeptAnswer)


class AnswerStore(ABC):
    """Keeps answers by their keys. It forgets when it likes, and what fails in it is as if nothing were kept.

    `size` is the memory of this process that it uses, in bytes; `evictions` counts what went since others came.
    """

    evictions = 0
    size = 0

    @abstractmethod
    async def get(self, key: bytes) -> bytes | None:
        """Find what was kept under `key`."""

    @abstractmethod
    async def put(self, key: bytes, answer: bytes) -> bool:
        """Keep an answer; tell whether it is kept."""

    async def has(self, key: bytes) -> bool:
        """Tell whether an answer is kept under `key`; that should not count as reading it."""
        return await self.get(key) is not None

    async def aclose(self) -> None:  # noqa: B027 - a store in memory has nothing to close
        """Let go."""


def write(log: Sequence[GenerateEvent], trace: str | None) -> bytes | None:
    """Write an answer that was made under `trace`, deltas joined to pieces; `None` where the answer is not whole."""
    if not _is_whole(log):
        return None
    last = cast("Finished", log[-1])
    return _encode(KeptAnswer([_unprefilled(event, last.usage) for event in _pieces(log)], trace))


def read(answer: bytes) -> KeptAnswer | None:
    """Read what was written; `None` where it is something else."""
    try:
        kept = _decoder.decode(answer)
    except msgspec.MsgspecError:
        return None
    return kept if _is_whole(kept.events) else None


def _is_whole(log: Sequence[GenerateEvent]) -> bool:
    """Tell whether the answer came to its own end."""
    if len(log) < 2 or not isinstance(log[0], Started):  # noqa: PLR2004 - the two ends
        return False
    last = log[-1]
    return isinstance(last, Finished) and last.reason in _WHOLE


def _unprefilled(event: GenerateEvent, usage: Usage) -> GenerateEvent:
    """Write a kept event as its reader pays for it: nothing of the prompt prefilled, no time spent."""
    match event:
        case Started():
            known = {"prompt_tokens": usage.prompt_tokens, "cached_tokens": usage.prompt_tokens}
            return structs.replace(event, queue_seconds=0.0, prefill_seconds=0.0, **known)
        case Finished():
            return structs.replace(event, usage=structs.replace(usage, cached_tokens=usage.prompt_tokens))
        case _:
            return event


def _pieces(log: Sequence[GenerateEvent]) -> Iterator[GenerateEvent]:
    """Yield the events with their deltas, and the pieces of each call, joined."""
    run: list[Delta | ToolDelta] = []
    for event in log:
        if run and len(run) < _PIECE and (following := continued(run, event)) is not None:
            run.append(following)
            continue
        if run:
            yield join_run(run)
            run = []
        if isinstance(event, Delta | ToolDelta):
            run.append(event)
        else:
            yield event
