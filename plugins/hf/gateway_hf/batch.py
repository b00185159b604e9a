"""The generations that run, and one step of them all: admit, guess, plan, compute, write, say what happened."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from gateway.engine import EngineError, Finished, GenerateEvent, InvalidRequest, Mailbox, Started, Unavailable
from gateway_hf.constrain.thought_guide import AnswerGuide
from gateway_hf.draft_model import DraftModel
from gateway_hf.sampling.terms import Terms
from gateway_hf.scheduling.drafter import Drafter, Guessing
from gateway_hf.scheduling.scheduler import Chunk, Scheduler
from gateway_hf.scheduling.sequence import Drawn, Sequence
from gateway_hf.speculation import Speculation
from gateway_hf.text.prompt_scores import ScoredPrompt
from gateway_hf.text.writer import Writer

_log = logging.getLogger("gateway_hf")

MailboxEvent = tuple[Mailbox, GenerateEvent | BaseException]

_NO_GUESSING = Guessing(answers=0, most=0)


class Runs(Protocol):
    """What a batch asks of its runner."""

    def join(self, sequence: Sequence, terms: Terms, guide: AnswerGuide | None, /) -> None:
        """Learn how a sequence is to be drawn, before its first step."""
        ...

    def run(self, chunks: list[Chunk], /) -> list[list[Drawn] | BaseException]:
        """Compute the chunks and return, for each, the tokens drawn, or the error that ends that sequence alone.

        Nothing is drawn while tokens are pending; more than one token where a draft came true, or a grammar forces
        them. Drawn tokens are appended to the sequence's tokens, and `computed` is what the cache then holds of them.
        """
        ...

    def forget(self, sequence: Sequence, /) -> None:
        """Free what the sequence holds beside its blocks; harmless when that is nothing."""
        ...


@dataclasses.dataclass(eq=False, slots=True)
class Generation:
    """One answer on its way; the times are of the monotonic clock, in seconds.

    Its `prompt` is there where the prompt's scores are wanted, its `guide` where the answer or its thoughts are bound.
    One that stands by is computed once no other was there for `quiet` seconds.
    """

    id: str
    sequence: Sequence
    terms: Terms
    writer: Writer
    mailbox: Mailbox
    arrived: float
    quiet: float | None = None
    prompt: ScoredPrompt | None = None
    guide: AnswerGuide | None = None
    admitted: float = 0.0
    started: bool = False
    drafter: Drafter = dataclasses.field(default_factory=Drafter)


class Batch:
    """Owns every generation from when it joins until it ends or leaves; used by one thread.

    `prepare` does a piece of work for later, and says whether there was any.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runs,
        guessing: Guessing = _NO_GUESSING,
        draft: DraftModel | None = None,
        prepare: Callable[[], bool] = lambda: False,
    ) -> None:
        self._prepare = prepare
        self._scheduler = scheduler
        self._runner = runner
        self._speculation = Speculation(scheduler, guessing, draft)
        self._generations: dict[Sequence, Generation] = {}
        self._asked = 0  # generations that do not stand by
        self._left = -math.inf

    def __len__(self) -> int:
        return len(self._generations)

    @property
    def pause(self) -> float | None:
        """The seconds until a step has something to compute, if no other generation joins; `None` for no end."""
        if self._asked:
            return 0.0
        standing = (each.quiet or 0.0 for each in self._generations.values())
        quiet = min(standing, default=None)
        return None if quiet is None else max(0.0, self._left + quiet - time.monotonic())

    def prepare(self) -> bool:
        """Do a piece of work for later, while there is nothing to compute; say whether there was any."""
        prepare, self._prepare = self._prepare, lambda: False  # work that fails is not tried again
        was_any = prepare()
        self._prepare = prepare
        return was_any

    def join(self, generation: Generation) -> None:
        """Take a generation into the queue."""
        self._generations[generation.sequence] = generation
        self._asked += generation.quiet is None
        self._runner.join(generation.sequence, generation.terms, generation.guide)
        self._scheduler.add(generation.sequence)

    def leave(self, generation: Generation) -> None:
        """Drop a generation, wherever it is, and free what it holds; harmless when it has ended."""
        if self._generations.pop(generation.sequence, None) is not None and generation.quiet is None:
            self._asked -= 1
            self._left = time.monotonic()
        self._scheduler.remove(generation.sequence)
        self._runner.forget(generation.sequence)
        self._speculation.forget(generation.sequence)

    def step(self) -> Iterator[MailboxEvent]:
        """Run one step; yields what it said, so that what was said is known even if the step breaks."""
        self._admit()
        self._speculation.guess([self._generations[each] for each in self._scheduler.decoding()])
        chunks = self._scheduler.plan()
        for sequence in self._scheduler.outgrown():
            yield self._fail(self._generations[sequence], EngineError("the cache is too small for this answer"))
        outcomes = self._run(chunks) if chunks else []
        for chunk, outcome in zip(chunks, outcomes, strict=True):
            yield from self._deliver(self._generations[chunk.sequence], outcome)

    def _run(self, chunks: list[Chunk]) -> list[list[Drawn] | BaseException]:
        begun = time.perf_counter()
        outcomes = self._runner.run(chunks)
        self._scheduler.took(time.perf_counter() - begun)
        return outcomes

    def fail(self, message: str) -> list[MailboxEvent]:
        """End every generation with an `Unavailable`."""
        return [self._fail(generation, Unavailable(message)) for generation in list(self._generations.values())]

    def _admit(self) -> None:
        now = time.monotonic()
        for sequence in self._scheduler.admit():
            generation = self._generations[sequence]
            # Whoever comes back from a preemption was admitted before.
            generation.admitted = generation.admitted or now

    def _deliver(self, generation: Generation, outcome: list[Drawn] | BaseException) -> Iterator[MailboxEvent]:
        """Deliver the outcome of one chunk; an error ends its own generation and no other."""
        try:
            events = self._events_of(generation, outcome)
        except InvalidRequest as error:  # it is the request that leaves nothing to draw
            yield self._fail(generation, error)
            return
        except BaseException as error:  # noqa: BLE001 - whatever it is, a panic of the tokenizer too, it is logged and typed
            yield self._fail_logged(generation, error)
            return
        for event in events:
            yield generation.mailbox, event
        if events and isinstance(events[-1], Finished):
            self.leave(generation)

    def _events_of(self, generation: Generation, outcome: list[Drawn] | BaseException) -> list[GenerateEvent]:
        if isinstance(outcome, BaseException):
            raise outcome
        self._scheduler.seal(generation.sequence)
        if generation.prompt is not None:
            generation.prompt.hear(generation.sequence.scores)
        _train_drafter(generation, outcome)
        return _write(generation, outcome)

    def _fail_logged(self, generation: Generation, error: BaseException) -> MailboxEvent:
        """Log what broke a generation and end it; the caller hears only what was meant for callers."""
        _log.error("generation %s failed", generation.id, exc_info=error)
        told = EngineError("the model failed while it computed this answer")
        return self._fail(generation, error if isinstance(error, EngineError) else told)

    def _fail(self, generation: Generation, error: EngineError) -> MailboxEvent:
        self._scheduler.scrap(generation.sequence)
        self.leave(generation)
        return (generation.mailbox, error)


def _train_drafter(generation: Generation, drawn: list[Drawn]) -> None:
    generation.drafter.learn([each.id for each in drawn])
    generation.sequence.draft = []


def _write(generation: Generation, drawn: list[Drawn]) -> list[GenerateEvent]:
    """Turn what was drawn into events, up to the end of the answer; tokens drawn beyond it are dropped."""
    events: list[GenerateEvent] = []
    if drawn and not generation.started:
        generation.started = True
        events.append(_started(generation))
    for each in drawn:
        events += generation.writer.write(each)
        if isinstance(events[-1], Finished):
            break
    return events


def _started(generation: Generation) -> Started:
    sequence = generation.sequence
    generation.writer.cached_tokens = sequence.cached
    return Started(
        prompt_tokens=sequence.prompt_tokens,
        cached_tokens=sequence.cached,
        queue_seconds=generation.admitted - generation.arrived,
        prefill_seconds=time.monotonic() - generation.admitted,
        prompt_logprobs=None if generation.prompt is None else generation.prompt.told,
        prompt_ids=tuple(sequence.tokens[: sequence.prompt_tokens]) if generation.terms.token_ids else None,
    )
