"""From the requests of one body to their answers, whole or as one stream; each answer fails by itself."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, cast

from msgspec import Struct, structs

from gateway.api.exchange.asked import Prompts
from gateway.api.exchange.constraint import structured_headers
from gateway.api.exchange.dialect import Rendering
from gateway.api.exchange.score_budget import ScoreBudget, budget_of
from gateway.auth import Caller
from gateway.engine import (
    Answer,
    EngineError,
    Finished,
    FinishReason,
    Fold,
    GenerateEvent,
    GenerateRequest,
    Started,
    Usage,
)
from gateway.flow.deadline import Timeouts
from gateway.flow.fanout import ChoiceEvent, add_up, fan_out, total
from gateway.flow.offload import offload
from gateway.flow.tasks import end_all
from gateway.hosting.route import Target
from gateway.inflight import InFlightRequest, Options
from gateway.limits import Allowance, PromptAllowance
from gateway.service import Inference

RunEvent = tuple[int, GenerateEvent | EngineError] | Finished


class PromptAnswers(Struct, frozen=True):
    """The answers to one prompt by their numbers, the errors of those that failed, and what the others used."""

    answers: Mapping[int, Answer]
    failed: Mapping[int, EngineError]
    usage: Usage


class RenderedFrame(Struct, frozen=True):
    """An event that was encoded beside the event loop."""

    frame: bytes


class Run:
    """Everything that one body asked for, on its way through the engine."""

    def __init__(
        self, inference: Inference, caller: Caller, target: Target, prompts: Prompts, options: Options
    ) -> None:
        self._inference = inference
        self._caller = caller
        self._target = target
        self._prompts = prompts
        self.is_single = prompts.is_single
        self._budget = budget_of(prompts, target.card, inference.config.server.max_logprobs)
        self._options = options
        self._began = time.monotonic()
        self._entries: list[InFlightRequest] = []
        self._structured: dict[str, str] = {}
        self._failed: dict[int, str] = {}  # the codes of errors, whose tracebacks would lead back here

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer, complete when its first event is there."""
        headers = {name: value for entry in self._entries for name, value in entry.headers.items()}
        # Of several answers the one that took the most work counts.
        statuses = {entry.headers.get("x-cache") for entry in self._entries}
        most = next((status for status in ("miss", "coalesced", "hit") if status in statuses), None)
        headers |= {} if most is None else {"x-cache": most}
        headers |= self._structured
        if self._failed:
            headers["x-failed-choices"] = ",".join(f"{index}={code}" for index, code in self._failed.items())
        return headers

    def stream(self, rendering: Rendering) -> tuple[AsyncGenerator[object, None], Callable[[Any], bytes]]:
        """Return the events, and what encodes each; the events of a single answer are the service's own.

        Raises `InvalidRequest` for prompts with more log-probabilities than a reply may hold. Those of answers are not
        counted where they are only sent as they come.
        """
        if self._budget is not None and rendering.holds_answers:
            self._prompts = self._budget.bound_answers()
        rendering.is_structured = self._prompts.is_structured
        if self._prompts.is_single:
            entry = self._admit(self._prompts.requests[0], self._options)
            events, encode = self._inference.generate(entry), rendering.to_frame
            return (events, encode) if self._budget is None else _scored(self._budget, events, encode)
        several, each = self.events(), partial(to_frame, rendering)
        return (several, each) if self._budget is None else _scored(self._budget, several, each)

    async def whole(self, rendering: Rendering) -> bytes:
        """Run all requests side by side, as many as there are places, and encode their answers.

        A choice that failed leaves the prompt's others; a prompt that has none raises its first error. Raises
        `InvalidRequest` for more log-probabilities than a reply may hold.
        """
        if self._budget is not None:
            self._budget.check_prompts()
            self._prompts = self._budget.bound_answers()
        if self._prompts.is_single:
            answer = await self._find_one(self._prompts.requests[0], rendering)
            return await self._encode(rendering, {0: answer}, answer.finished.usage)
        async with self._hold() as allowance:
            found = await self._find_all(rendering, allowance)
        n = self._prompts.n
        answers = {at * n + index: answer for at, each in enumerate(found) for index, answer in each.answers.items()}
        self._failed = {
            at * n + index: error.code for at, each in enumerate(found) for index, error in each.failed.items()
        }
        return await self._encode(rendering, answers, total([each.usage for each in found]))

    async def events(self) -> AsyncGenerator[RunEvent, None]:
        """Yield the events of all answers, a prompt after the other, each beside its number; last the usage of all.

        Where an answer failed, its error is raised when the others are finished.
        """
        event: GenerateEvent | EngineError | None = None
        failed: EngineError | None = None
        usages: list[Usage] = []
        async with self._hold() as allowance:
            for number, request in enumerate(self._prompts.requests):
                each: list[Usage] = []
                async with aclosing(self._fan_out(request, allowance)) as choices:
                    async for index, event in choices:
                        if isinstance(event, EngineError):
                            failed = failed or event
                            continue
                        if isinstance(event, Finished):
                            each.append(event.usage)
                        yield number * self._prompts.best_of + index, event
                usages.append(add_up(each))
        if failed is not None:
            try:
                raise failed
            finally:
                del failed, event  # its traceback holds this frame
        yield Finished(FinishReason.STOP, total(usages))

    async def _encode(self, rendering: Rendering, answers: Mapping[int, Answer], usage: Usage) -> bytes:
        if self._prompts.is_structured:
            self._structured = structured_headers(answer.finished for answer in answers.values())
        used = 0 if self._budget is None else self._budget.used
        used += sum(len(answer.ids) + len(answer.started.prompt_ids or ()) for answer in answers.values())
        return await offload(used, lambda: rendering.to_reply(answers, usage))

    def _hold(self) -> Allowance:
        requests, best_of = self._prompts.requests, self._prompts.best_of
        return self._inference.hold(self._caller, self._target, requests, best_of, self._options.standby)

    def _fan_out(self, request: GenerateRequest, allowance: Allowance) -> AsyncGenerator[ChoiceEvent, None]:
        """Generate the answers to one prompt."""
        return fan_out(partial(self._generate, PromptAllowance(allowance)), request, self._prompts.best_of)

    async def _find_all(self, rendering: Rendering, allowance: Allowance) -> list[PromptAnswers]:
        requests = self._prompts.requests
        turns = asyncio.Semaphore(max(1, self._target.card.places // self._prompts.best_of))

        async def find(request: GenerateRequest) -> PromptAnswers:
            async with turns:
                return await self._find(request, rendering, allowance)

        # A `TaskGroup` would raise a group that refers to itself by its traceback.
        tasks = [asyncio.create_task(find(request)) for request in requests]
        failed: asyncio.Task[PromptAnswers] | None = None
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            failed = next((task for task in tasks if task.done() and (task.cancelled() or task.exception())), None)
            return [task.result() for task in tasks] if failed is None else [failed.result()]
        finally:
            await end_all(tasks)
            del tasks, failed  # a task keeps its error, whose traceback holds this frame

    async def _find(self, request: GenerateRequest, rendering: Rendering, allowance: Allowance) -> PromptAnswers:
        prompts = self._prompts
        if prompts.best_of == 1:
            answer = await self._find_one(request, rendering, PromptAllowance(allowance))
            return PromptAnswers({0: answer}, {}, answer.finished.usage)
        answers, failed = await self._find_choices(request, rendering, allowance)
        if not answers:
            try:
                raise next(iter(failed.values()))
            finally:
                failed.clear()  # its traceback holds this frame
        usage = add_up(answer.finished.usage for answer in answers.values())
        if prompts.best_of == prompts.n:
            return PromptAnswers(answers, failed, usage)
        best = _best(answers, prompts.n)
        lost = list(failed.values())[: prompts.n - len(best)]
        return PromptAnswers(best, dict(enumerate(lost, start=len(best))), usage)

    async def _find_choices(
        self, request: GenerateRequest, rendering: Rendering, allowance: Allowance
    ) -> tuple[dict[int, Answer], dict[int, EngineError]]:
        """Make all answers to one prompt, each by its number; those that fail have an error in place of one."""
        note, folds = _noting(self._budget, rendering), dict[int, Fold]()
        failed: dict[int, EngineError] = {}
        async with aclosing(self._fan_out(request, allowance)) as choices:
            async for index, event in choices:
                if isinstance(event, EngineError):
                    failed[index] = event
                else:
                    note(event)
                    folds.setdefault(index, Fold()).add(event)
        return {index: fold.answer() for index, fold in folds.items() if index not in failed}, failed

    async def _find_one(
        self, request: GenerateRequest, rendering: Rendering, allowance: PromptAllowance | None = None
    ) -> Answer:
        """Do without the tasks that several answers need: they would cost a small request a tenth of its time."""
        note, fold = _noting(self._budget, rendering), Fold()
        async with aclosing(self._generate(allowance, request)) as events:
            async for event in events:
                note(event)
                fold.add(event)
        return fold.answer()

    def _generate(
        self, allowance: PromptAllowance | None, request: GenerateRequest
    ) -> AsyncGenerator[GenerateEvent, None]:
        """Generate without queue positions, which are no part of a whole answer or of one among several."""
        options = self._options
        if options.wants_queue_updates:
            options = structs.replace(options, wants_queue_updates=False)
        if allowance is not None:
            options = structs.replace(options, timeouts=self._left())
        entry = self._admit(request, options, allowance)
        return cast("AsyncGenerator[GenerateEvent, None]", self._inference.generate(entry))

    def _admit(
        self, request: GenerateRequest, options: Options, allowance: PromptAllowance | None = None
    ) -> InFlightRequest:
        entry = self._inference.admit(request, self._caller, self._target, options, allowance)
        self._entries.append(entry)
        return entry

    def _left(self) -> Timeouts:
        """Return the time-outs of an answer among several: of the total, the seconds that are left of all."""
        timeouts = self._options.timeouts
        total = self._inference.config.server.request_seconds if timeouts.total is None else timeouts.total
        return structs.replace(timeouts, total=max(self._began + total - time.monotonic(), 0.0))


def to_frame(rendering: Rendering, event: RunEvent) -> bytes:
    """Encode an event of several answers as SSE frames."""
    if isinstance(event, Finished):
        return rendering.to_last(event.usage)
    index, piece = event
    return b"" if isinstance(piece, EngineError) else rendering.to_piece(index, piece)


def _best(answers: Mapping[int, Answer], n: int) -> dict[int, Answer]:
    """Choose the answers whose tokens are likeliest on average, the best first."""
    ranked = sorted(answers.values(), key=lambda answer: answer.mean_logprob, reverse=True)
    return dict(enumerate(ranked[:n]))


def _scored(
    budget: ScoreBudget, events: AsyncGenerator[Any, None], encode: Callable[[Any], bytes]
) -> tuple[AsyncGenerator[object, None], Callable[[Any], bytes]]:
    """Have scored prompts counted, and encoded beside the loop."""
    budget.check_prompts()
    if not budget.has_prompts:
        return events, encode

    async def counted() -> AsyncGenerator[object, None]:
        async with aclosing(events):
            async for event in events:
                started = event[1] if isinstance(event, tuple) else event
                if isinstance(started, Started):
                    count = budget.see(started)
                    yield RenderedFrame(await offload(count, partial(encode, event)))
                else:
                    yield event

    return counted(), lambda event: event.frame if isinstance(event, RenderedFrame) else encode(event)


def _noting(budget: ScoreBudget | None, rendering: Rendering) -> Callable[[GenerateEvent], None]:
    """Return what takes note of each event of a whole answer."""
    if budget is None or not budget.has_prompts:
        return rendering.note

    def note(event: GenerateEvent) -> None:
        rendering.note(event)
        if type(event) is Started:
            budget.see(event)

    return note
