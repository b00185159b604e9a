"""From the requests of one body to their answers, whole or as one stream; an answer that fails is its own."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from msgspec import Struct, structs

from gateway.api.openai.logprobs import mean
from gateway.api.openai.render import Rendering
from gateway.api.openai.translate import Prompts
from gateway.auth import Caller
from gateway.cache import CachePolicy
from gateway.engine import (
    Answer,
    EngineError,
    Finished,
    FinishReason,
    Fold,
    GenerateEvent,
    GenerateRequest,
    ModelCard,
    Usage,
)
from gateway.flow.deadline import Timeouts
from gateway.flow.fanout import add_up, fan_out
from gateway.inflight import InFlightRequest
from gateway.service import Inference

# Seconds; what comes later than its time gets this, and so the error that says so.
_SHORTEST = 0.001

RunEvent = tuple[int, GenerateEvent | EngineError] | Finished


class PromptAnswers(Struct, frozen=True):
    """The answers to one prompt by their numbers, the errors of those that failed, and what the others used."""

    answers: Mapping[int, Answer]
    failed: Mapping[int, EngineError]
    usage: Usage


class Run:
    """What one body asked, on its way through the engine."""

    def __init__(
        self, inference: Inference, caller: Caller, asked: Prompts, times: Timeouts, wish: CachePolicy = CachePolicy.ANY
    ) -> None:
        self._inference = inference
        self._asked = asked
        self._caller = caller
        self._times = times
        self._wish = wish
        self._began = time.monotonic()
        self._visits: list[InFlightRequest] = []
        self._failed: dict[int, EngineError] = {}

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer, complete when its first event is there."""
        headers = {name: value for visit in self._visits for name, value in visit.headers.items()}
        # Of several answers the one that took the most work counts.
        statuses = {visit.headers.get("x-cache") for visit in self._visits}
        most = next((status for status in ("miss", "coalesced", "hit") if status in statuses), None)
        headers |= {} if most is None else {"x-cache": most}
        if self._failed:
            headers["x-failed-choices"] = ",".join(f"{index}={self._failed[index].code}" for index in self._failed)
        return headers

    def admit(self) -> InFlightRequest | None:
        """Make the visit of the only request with one answer; `None` where there are more of either."""
        asked = self._asked
        return self._admit(asked.requests[0]) if len(asked.requests) == asked.made == 1 else None

    async def whole(self, card: ModelCard, rendering: Rendering) -> bytes:
        """Run all requests side by side, as many as there are places, and encode their answers.

        A choice that failed leaves the prompt's others; a prompt that has none raises its first error.
        """
        found = await self._find_all(card, rendering)
        given = self._asked.given
        answers = {n * given + index: answer for n, each in enumerate(found) for index, answer in each.answers.items()}
        self._failed = {
            n * given + index: error for n, each in enumerate(found) for index, error in each.failed.items()
        }
        return rendering.to_reply(answers, _total([each.usage for each in found]))

    async def _find_all(self, card: ModelCard, rendering: Rendering) -> list[PromptAnswers]:
        asked = self._asked
        if len(asked.requests) == 1:
            return [await self._find(asked.requests[0], rendering)]
        turns = asyncio.Semaphore(max(1, card.places // asked.made))

        async def find(request: GenerateRequest) -> PromptAnswers:
            async with turns:
                return await self._find(request, rendering)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(find(request)) for request in asked.requests]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        return [task.result() for task in tasks]

    async def told(self) -> AsyncGenerator[RunEvent, None]:
        """Yield the events of all answers, a prompt after the other, each beside its number; last all that was used.

        Where an answer failed, its error is raised when the others are finished.
        """
        failed: EngineError | None = None
        usages: list[Usage] = []
        for number, request in enumerate(self._asked.requests):
            each: list[Usage] = []
            async with aclosing(fan_out(self._generate, request, self._asked.made)) as told:
                async for index, event in told:
                    if isinstance(event, EngineError):
                        failed = failed or event
                        continue
                    if isinstance(event, Finished):
                        each.append(event.usage)
                    yield number * self._asked.made + index, event
            usages.append(add_up(each))
        if failed is not None:
            raise failed
        yield Finished(FinishReason.STOP, _total(usages))

    async def _find(self, request: GenerateRequest, rendering: Rendering) -> PromptAnswers:
        asked = self._asked
        if asked.made == 1:
            return await self._find_one(request, rendering)
        folds: dict[int, Fold] = {}
        failed: dict[int, EngineError] = {}
        async with aclosing(fan_out(self._generate, request, self._asked.made)) as told:
            async for index, event in told:
                if isinstance(event, EngineError):
                    failed[index] = event
                else:
                    rendering.note(event)
                    folds.setdefault(index, Fold()).add(event)
        answers = {index: fold.answer() for index, fold in folds.items() if index not in failed}
        if not answers:
            raise next(iter(failed.values()))
        usage = add_up(answer.finished.usage for answer in answers.values())
        if asked.made == asked.given:
            return PromptAnswers(answers, failed, usage)
        best = _best(answers, asked.given)
        lost = list(failed.values())[: asked.given - len(best)]
        return PromptAnswers(best, dict(enumerate(lost, start=len(best))), usage)

    async def _find_one(self, request: GenerateRequest, rendering: Rendering) -> PromptAnswers:
        """Do without the tasks that several answers need: they would cost a small request a tenth of its time."""
        fold = Fold()
        async with aclosing(self._generate(request)) as events:
            async for event in events:
                rendering.note(event)
                fold.add(event)
        answer = fold.answer()
        return PromptAnswers({0: answer}, {}, answer.finished.usage)

    def _generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        return self._inference.generate(self._admit(request))

    def _admit(self, request: GenerateRequest) -> InFlightRequest:
        """Make the visit of a request, for the time that is left of all."""
        visit = self._inference.admit(request, self._caller, self._left(), self._wish)
        self._visits.append(visit)
        return visit

    def _left(self) -> Timeouts:
        """Say what is left of the time that all may take."""
        gone = time.monotonic() - self._began
        most = self._inference.config.server.request_seconds
        total = most if self._times.total is None else min(self._times.total, most)
        return structs.replace(self._times, total=max(total - gone, _SHORTEST))


def to_frame(rendering: Rendering, told: RunEvent) -> bytes:
    """Encode what a run tells of several answers as SSE frames."""
    if isinstance(told, Finished):
        return rendering.to_last(told.usage)
    index, event = told
    return b"" if isinstance(event, EngineError) else rendering.to_piece(index, event)


def _best(answers: Mapping[int, Answer], given: int) -> dict[int, Answer]:
    """Choose the answers whose tokens are likeliest on average, the best first."""
    ranked = sorted(answers.values(), key=lambda answer: mean(answer.logprobs), reverse=True)
    return dict(enumerate(ranked[:given]))


def _total(usages: Sequence[Usage]) -> Usage:
    """Add up what several prompts used."""
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
    )
