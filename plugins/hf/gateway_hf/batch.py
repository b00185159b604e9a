"""The generations that run, and one step of them all: admit, plan, advance each, say what happened."""

import dataclasses
import logging
import time
from collections.abc import Iterator
from typing import Protocol

from gateway.engine import EngineError, Finished, GenerateEvent, Mailbox, Started, Unavailable
from gateway_hf.scheduler import Chunk, Scheduler
from gateway_hf.sequence import Drawn, Sequence
from gateway_hf.terms import Terms
from gateway_hf.writer import Writer

_log = logging.getLogger("gateway_hf")

Letter = tuple[Mailbox, GenerateEvent | BaseException]


class Advances(Protocol):
    """What a batch asks of its runner."""

    def advance(self, sequence: Sequence, tokens: int, terms: Terms, /) -> Drawn | None:
        """Compute the next tokens; return what was drawn, if it came to that."""
        ...

    def forget(self, sequence: Sequence, /) -> None:
        """Free what the sequence holds."""
        ...


@dataclasses.dataclass(eq=False, slots=True)
class Generation:
    """One answer on its way; the times are of the monotonic clock, in seconds."""

    id: str
    sequence: Sequence
    terms: Terms
    writer: Writer
    mailbox: Mailbox
    arrived: float
    admitted: float = 0.0


class Batch:
    """Owns every generation from when it joins until it ends or leaves; used by one thread."""

    def __init__(self, scheduler: Scheduler, runner: Advances) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._generations: dict[Sequence, Generation] = {}

    def __len__(self) -> int:
        return len(self._generations)

    def join(self, generation: Generation) -> None:
        """Take a generation into the line."""
        self._generations[generation.sequence] = generation
        self._scheduler.add(generation.sequence)

    def leave(self, generation: Generation) -> None:
        """Drop a generation, wherever it is, and free what it holds; harmless when it has ended."""
        self._generations.pop(generation.sequence, None)
        self._scheduler.remove(generation.sequence)
        self._runner.forget(generation.sequence)

    def step(self) -> Iterator[list[Letter]]:
        """Run one step; yields the letters of each sequence as it was advanced, and there others may join or leave."""
        now = time.monotonic()
        for sequence in self._scheduler.admit():
            self._generations[sequence].admitted = now
        plan = self._scheduler.plan()
        for sequence, tokens in [*[Chunk(sequence, 1) for sequence in plan.decodes], *plan.prefills]:
            if generation := self._generations.get(sequence):
                yield self._advance(generation, tokens)

    def fail(self, message: str) -> list[Letter]:
        """End every generation with an `Unavailable`."""
        generations = list(self._generations.values())
        for generation in generations:
            self.leave(generation)
        return [(generation.mailbox, Unavailable(message)) for generation in generations]

    def _advance(self, generation: Generation, tokens: int) -> list[Letter]:
        """Advance one generation; whatever goes wrong is its own end and nobody else's."""
        try:
            drawn = self._runner.advance(generation.sequence, tokens, generation.terms)
            events = [] if drawn is None else _events(generation, drawn)
        except Exception as error:  # noqa: BLE001 - a model may raise anything; it is logged and typed
            _log.exception("generation %s failed", generation.id)
            self.leave(generation)
            return [(generation.mailbox, _typed(error))]
        if events and isinstance(events[-1], Finished):
            self.leave(generation)
        return [(generation.mailbox, event) for event in events]


def _events(generation: Generation, drawn: Drawn) -> list[GenerateEvent]:
    written = generation.writer.write(drawn)
    sequence = generation.sequence
    if len(sequence.tokens) > sequence.prompt_tokens + 1:
        return [*written]
    started = Started(
        prompt_tokens=sequence.prompt_tokens,
        queue_seconds=generation.admitted - generation.arrived,
        prefill_seconds=time.monotonic() - generation.admitted,
    )
    return [started, *written]


def _typed(error: Exception) -> EngineError:
    """Say what the caller may know; the rest is in the log."""
    return error if isinstance(error, EngineError) else EngineError("the model failed while it computed this answer")
