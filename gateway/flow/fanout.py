"""`n` answers from one request: n streams merged as their events come, usage added up."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing

from msgspec import structs

from gateway.engine import EngineError, Finished, GenerateEvent, GenerateRequest, Usage
from gateway.flow.tasks import end_all, is_cancelled

StartChoice = Callable[[GenerateRequest], AsyncGenerator[GenerateEvent, None]]
ChoiceEvent = tuple[int, GenerateEvent | EngineError]

# Events that may wait for a reader that lags; behind them the engine joins what comes.
_AHEAD = 16
_CUT_OFF = "the stream ended before it was finished"
_SEEDS = 2**64


def fan_out(generate: StartChoice, request: GenerateRequest, n: int) -> AsyncGenerator[ChoiceEvent, None]:
    """Yield the events of `n` choices beside their numbers; the last of each is `Finished` or its own `EngineError`.

    Choice 0 is the request as it is and pays for the prefill: the others are asked for when it has started, each with
    an id and a seed of its own. Where it fails before that, its error is raised. Closing cancels them all.
    """
    return _one(generate, request) if n == 1 else _many(generate, request, n)


def add_up(usages: Iterable[Usage]) -> Usage:
    """Count the prompt of all choices once, as the first of them found it, and every token of every answer."""
    each = list(usages)
    return Usage(
        prompt_tokens=max((usage.prompt_tokens for usage in each), default=0),
        completion_tokens=sum(usage.completion_tokens for usage in each),
        # The others found the prompt that the first left.
        cached_tokens=min((usage.cached_tokens for usage in each), default=0),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in each),
    )


def total(usages: Sequence[Usage]) -> Usage:
    """Add up what several prompts used."""
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
    )


async def _one(generate: StartChoice, request: GenerateRequest) -> AsyncGenerator[ChoiceEvent, None]:
    event: GenerateEvent | None = None
    try:
        async with aclosing(generate(request)) as events:
            async for event in events:
                yield 0, event
    except EngineError as error:
        if event is None:
            raise
        yield 0, error
        return
    if not isinstance(event, Finished):
        yield 0, EngineError(_CUT_OFF)


async def _many(generate: StartChoice, request: GenerateRequest, n: int) -> AsyncGenerator[ChoiceEvent, None]:
    merge = _Merge(generate)
    try:
        merge.add(0, request)
        first = await merge.next()
        if isinstance(first[1], EngineError):
            try:
                raise first[1]
            finally:
                del first  # its traceback holds this frame
        for number in range(1, n):
            merge.add(number, _choice(request, number))
        yield first
        while merge.is_open:
            yield await merge.next()
    finally:
        await merge.aclose()


def _choice(request: GenerateRequest, number: int) -> GenerateRequest:
    """Make the request of another choice than the first; seeds stay within 64 bits."""
    sampling = request.sampling
    if sampling.seed is not None:
        seed = (sampling.seed + number + _SEEDS // 2) % _SEEDS - _SEEDS // 2
        sampling = structs.replace(sampling, seed=seed)
    return structs.replace(request, id=f"{request.id}-{number}", sampling=sampling)


class _Merge:
    """Runs each choice in a task of its own, and has their events read in the order of their coming."""

    def __init__(self, generate: StartChoice) -> None:
        self._generate = generate
        self._tasks: list[asyncio.Task[None]] = []
        self._events: asyncio.Queue[tuple[int, GenerateEvent | Exception]] = asyncio.Queue(_AHEAD)
        self._running = 0

    @property
    def is_open(self) -> bool:
        """Whether any choice is still without its end."""
        return self._running > 0

    def add(self, number: int, request: GenerateRequest) -> None:
        """Begin one more choice."""
        self._running += 1
        self._tasks.append(asyncio.create_task(self._run(number, request)))

    async def next(self) -> ChoiceEvent:
        """Return the next event of any choice; raise what is no `EngineError`."""
        number, event = await self._events.get()
        if isinstance(event, Finished | Exception):
            self._running -= 1
        if isinstance(event, Exception) and not isinstance(event, EngineError):
            try:
                raise event
            finally:
                del event  # its traceback holds this frame
        return number, event

    async def aclose(self) -> None:
        """Cancel the choices that run, and wait until they have cleaned up."""
        tasks, self._tasks = self._tasks, []  # a task keeps its error, whose traceback leads back here
        await end_all(tasks)

    async def _run(self, number: int, request: GenerateRequest) -> None:
        last: GenerateEvent | Exception = EngineError(_CUT_OFF)
        try:
            async with aclosing(self._generate(request)) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        last = event
                    else:
                        await self._events.put((number, event))
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            last = EngineError("the engine cancelled the generation")
        except Exception as error:  # noqa: BLE001 - it is raised where it is read
            last = error
        try:
            await self._events.put((number, last))
        finally:
            del last  # its traceback holds this frame
