"""A causal language model of transformers as an engine."""

import asyncio
import functools
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple, Self

from msgspec import structs

from gateway.engine import (
    Chat,
    Finished,
    GenerateEvent,
    GenerateRequest,
    Health,
    Hold,
    LoadFailed,
    Mailbox,
    ModelCard,
    Post,
    Prompt,
    PromptReading,
    Status,
    Unavailable,
    Unsupported,
)
from gateway_hf.batch import Batch, Generation
from gateway_hf.capabilities import adapter_cards, card_of, constraints_of
from gateway_hf.constrain.constraints import Constraints, Held, bind
from gateway_hf.golden.check import check_golden
from gateway_hf.loading import weights
from gateway_hf.loop import Loop
from gateway_hf.reader import Reader, size_of
from gateway_hf.runner import Runner
from gateway_hf.sampling.terms import settle
from gateway_hf.scheduling import sequence
from gateway_hf.scheduling.scheduler import Scheduler
from gateway_hf.settings import Settings
from gateway_hf.steps import StepCount
from gateway_hf.text.bad_words import ban_words
from gateway_hf.text.codec import TextCodec
from gateway_hf.text.prompt_scores import ScoredPrompt
from gateway_hf.text.token_names import TokenNames
from gateway_hf.token_answers import TextSide, TokenAnswers
from gateway_hf.tools.plan import AnswerPlan, begin_answer, naming, plan_answer
from gateway_hf.tools.reading_writer import make_writer

_log = logging.getLogger("gateway_hf")


class ServedModel(NamedTuple):
    """What the event loop's side needs of a loaded model: no weights. `holds` keep folders in the cache.

    The first of its `cards` is the model's own; the others are those of its adapters, in the order of their numbers.
    Without `constraints` no answer of it can be constrained. The `drift` is as in `Status`.
    """

    cards: tuple[ModelCard, ...]
    text: TextCodec
    eos_ids: frozenset[int]
    scheduler: Scheduler
    steps: StepCount
    holds: tuple[Hold, ...]
    constraints: Constraints | None
    drift: float | None

    def adapter(self, model: str) -> int:
        """Return the number of the adapter that a model's name means; 0 for the model as it is."""
        return next((number for number, card in enumerate(self.cards) if card.name == model), 0)


class LoadedEngine(NamedTuple):
    """A loaded engine: the loop that owns the model, and the threads that read prompts."""

    loop: Loop[ServedModel]
    served: ServedModel
    reader: Reader


class HfEngine(TokenAnswers):
    """Serves one model: one thread runs it, others read prompts, the event loop does neither."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._health = Health.UNLOADED
        self._detail = ""
        self._running: LoadedEngine | None = None

    async def __aenter__(self) -> Self:
        """Load the model; raise `LoadFailed` when it cannot be loaded."""
        self._health, self._detail = Health.STARTING, "the model is loading"
        loop = Loop(functools.partial(_load, self._settings), weights.release, Post(asyncio.get_running_loop()))
        try:
            served = await asyncio.wrap_future(loop.loaded)
        except LoadFailed as error:
            self._health, self._detail = Health.FAILED, error.message
            raise
        except asyncio.CancelledError:
            loop.end()
            self._health, self._detail = Health.UNLOADED, ""
            raise
        self._running = LoadedEngine(loop, served, Reader(functools.partial(_count_read, served)))
        self._health, self._detail = Health.READY, ""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End what runs and give the memory back."""
        if self._running is None:
            return
        running, self._running = self._running, None
        self._health = Health.DRAINING
        try:
            await asyncio.to_thread(_unload, running)
        finally:
            self._health = Health.UNLOADED

    def models(self) -> Sequence[ModelCard]:
        """Say the model, once it is loaded, and after it what it is with each of its adapters."""
        return () if self._running is None else self._running.served.cards

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Read the prompt, join the batch, and pass on what the model says."""
        running = self._ready()
        arrived = time.monotonic()
        plan = await _plan(running, request)
        held = await _hold(running.served, plan)
        job = functools.partial(_prepare, running.served, request, arrived, (plan, held))
        generation = await running.reader.read(job, size_of(request.prompt))
        running.loop.submit(generation)
        try:
            while True:
                event = await generation.mailbox.get()
                if held is not None:
                    await held.hear(event, generation)
                yield event
                if type(event) is Finished:
                    return
        finally:
            running.loop.cancel(generation)

    async def explain(self, request: GenerateRequest) -> PromptReading:
        """Read the prompt as `generate` does, and look for it in the cache."""
        running = self._ready()
        plan = await _plan(running, request)
        held = await _hold(running.served, plan)
        job = functools.partial(_explain, running.served, request, (plan, held))
        return await running.reader.read(job, size_of(request.prompt))

    async def count_tokens(self, model: str, prompt: Prompt) -> int:
        """Count the tokens that the model would read."""
        del model
        running = self._ready()
        job = functools.partial(running.served.text.encode, prompt)
        return len(await running.reader.read(job, size_of(prompt)))

    async def status(self) -> Status:
        """Say how the engine is; a thread that ended by itself is a failure."""
        health, detail = self._health, self._detail
        if health is Health.READY and self._running is not None and not self._running.loop.alive:
            health, detail = Health.FAILED, "the model's thread has ended"
        if self._running is None:
            return Status(health=health, detail=detail)
        scheduler = self._running.served.scheduler
        return Status(
            health=health,
            detail=detail,
            running=scheduler.running,
            waiting=scheduler.waiting,
            cache_used=scheduler.cached,
            steps=self._running.served.steps.count + self._running.loop.naps,
            preemptions=scheduler.preemptions,
            drift=self._running.served.drift,
        )

    def _reading(self) -> TextSide:
        running = self._ready()
        return TextSide(running.served.text, running.reader)

    def _ready(self) -> LoadedEngine:
        if self._running is None:
            raise Unavailable(self._detail or "the model is not loaded")
        return self._running


def _load(settings: Settings) -> tuple[Batch, ServedModel]:
    """Load the model, in the thread that will own it; raise `LoadFailed`, whatever went wrong."""
    try:
        loaded = weights.load(settings)
        drift = check_golden(settings, loaded)
    except LoadFailed:
        raise
    except Exception as error:
        _log.exception("the model cannot be loaded")
        raise LoadFailed("the model cannot be loaded; the log says why") from error
    scheduler = Scheduler(settings.places, settings.step_tokens, loaded.blocks)
    constraints = constraints_of(settings, loaded)
    weights.settle()
    card = card_of(settings, loaded, constrains=constraints is not None)
    served = ServedModel(
        (card, *adapter_cards(card, loaded)),
        loaded.text,
        loaded.eos_ids,
        scheduler,
        loaded.forward.steps,
        tuple(filter(None, (loaded.hold, loaded.draft.hold if loaded.draft else None))),
        constraints,
        drift,
    )
    cache, blocks = loaded.cache, loaded.blocks
    prepare = (lambda: cache.take_ahead(blocks.reached)) if cache else lambda: False
    return Batch(scheduler, Runner(loaded.forward, loaded.kernels), loaded.guessing, loaded.draft, prepare), served


def _count_read(served: ServedModel) -> None:
    """Count a text that was read, where the model has nothing to do: a flow of texts must not hide that it hangs."""
    if not served.scheduler.running + served.scheduler.waiting:
        served.steps.tick()


def _unload(running: LoadedEngine) -> None:
    """End all threads, wait for them, and let go of the model's folder."""
    running.loop.end()
    running.loop.join()
    running.reader.close()
    if running.served.constraints is not None:
        running.served.constraints.close()
    for hold in running.served.holds:
        hold.close()


async def _plan(running: LoadedEngine, request: GenerateRequest) -> AnswerPlan:
    """Plan an answer; what asks for neither calls nor thoughts is planned at once, all else where texts are read."""
    text = running.served.text
    if not isinstance(request.prompt, Chat) or (not request.prompt.tools and text.thoughts is None):
        return AnswerPlan(constraint=request.constraint)
    return await running.reader.read(functools.partial(plan_answer, text, request), size_of(request.prompt))


async def _hold(served: ServedModel, plan: AnswerPlan) -> Held | None:
    """Compile what an answer is to be held to; raise `InvalidRequest` where that cannot be."""
    if plan.constraint is None:
        return None
    if served.constraints is None:
        raise Unsupported("the model's answers cannot be constrained; the log says why", param=plan.param)
    if plan.content is not None:  # what is wrong with it alone is not the tools' fault
        with naming(AnswerPlan(constraint=plan.content)):
            await served.constraints.hold(plan.content)
    with naming(plan):
        return await served.constraints.hold(plan.constraint, plan.content)


def _explain(served: ServedModel, request: GenerateRequest, planned: tuple[AnswerPlan, Held | None]) -> PromptReading:
    generation = _prepare(served, request, 0.0, planned)
    ids, prompt = tuple(generation.sequence.tokens), request.prompt
    text = served.text.render(prompt) if isinstance(prompt, Chat) else getattr(prompt, "text", None)
    return PromptReading(len(ids), ids, text, served.scheduler.found(generation.sequence), generation.terms.limit)


def _prepare(
    served: ServedModel, request: GenerateRequest, arrived: float, planned: tuple[AnswerPlan, Held | None]
) -> Generation:
    plan, held = planned
    ids = served.text.encode(request.prompt, request.truncate, request.truncation_side)
    plan = begin_answer(served.text, plan, request.prompt, ids)
    terms = settle(request.sampling, len(ids), served.cards[0].under(request.defaults), served.eos_ids)
    terms = ban_words(terms, served.text, request.sampling.bad_words or ())
    with naming(plan):
        guide = None if held is None else held.guide(terms, plan.after)
    if guide is not None:
        terms = structs.replace(terms, eos_ids=served.eos_ids)  # the guide decides when it may be drawn
    names, ranks = TokenNames(served.text), request.sampling.prompt_logprobs
    return Generation(
        id=request.id,
        sequence=sequence.Sequence(
            ids, request.priority, request.salt or "", ranks, served.adapter(request.model), request.standby is not None
        ),
        terms=terms,
        writer=make_writer(served.text, ids, terms, names, plan.reading),
        mailbox=Mailbox(),
        arrived=arrived,
        quiet=request.standby,
        prompt=None if ranks is None else ScoredPrompt(ids[0], names.of_prompt(request.prompt, ids), names),
        guide=guide if plan.thoughts is None else bind(served.constraints, plan.thoughts, guide, terms),
    )
