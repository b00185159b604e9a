"""An engine whose model reads texts and generates nothing: a thread computes passes, others read."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Generic, NamedTuple, Self, TypeVar

from gateway.engine import (
    GenerateEvent,
    GenerateRequest,
    Health,
    Hold,
    LoadFailed,
    ModelCard,
    Status,
    Unavailable,
    Unsupported,
)
from gateway_hf.embedding.batcher import Batcher
from gateway_hf.embedding.encoder import TokenRow
from gateway_hf.reader import Reader
from gateway_hf.settings import Settings
from gateway_hf.steps import StepCount
from gateway_hf.text.codec import TextCodec
from gateway_hf.token_answers import TextSide, TokenAnswers

L = TypeVar("L")

# Tokens of a pass, padding counted, and of a round, behind which the texts of a new request may join.
PASS_TOKENS = 4_096
_ROUND_TOKENS = 8_192

# Computes rows of tokens and returns the bytes of the float32 numbers of each; calls the other behind each pass.
ComputePasses = Callable[[Sequence[TokenRow], Callable[[], None]], list[bytes]]


class OpenedModel(NamedTuple, Generic[L]):
    """A model as an engine serves it: `loaded` is the subclass's own, `hold` keeps its folder in the cache.

    The `drift` is as in `Status`.
    """

    loaded: L
    card: ModelCard
    text: TextCodec
    compute: ComputePasses
    hold: Hold | None
    drift: float | None = None


class RunningModel(NamedTuple, Generic[L]):
    """A model, the line before it, and the threads that read texts."""

    opened: OpenedModel[L]
    batcher: Batcher
    reader: Reader
    steps: StepCount


class PassEngine(TokenAnswers, Generic[L]):
    """Serves one model; a subclass answers the questions that are not about tokens."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._health = Health.UNLOADED
        self._detail = ""
        self._running: RunningModel[L] | None = None

    @abstractmethod
    def _open(self, settings: Settings) -> OpenedModel[L]:
        """Load the model, in a thread; raise `LoadFailed`."""

    async def __aenter__(self) -> Self:
        """Load the model; raise `LoadFailed` when it cannot be loaded."""
        self._health, self._detail = Health.STARTING, "the model is loading"
        try:
            opened = await asyncio.to_thread(self._open, self._settings)
        except LoadFailed as error:
            self._health, self._detail = Health.FAILED, error.message
            raise
        steps = StepCount()
        batcher = Batcher(lambda rows: opened.compute(rows, steps.tick), _ROUND_TOKENS)
        self._running = RunningModel(opened, batcher, Reader(steps.tick), steps)
        self._health, self._detail = Health.READY, ""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End what runs and give the memory back."""
        if self._running is None:
            return
        running, self._running = self._running, None
        self._health = Health.DRAINING
        await running.batcher.close()
        await asyncio.to_thread(running.reader.close)
        if running.opened.hold is not None:
            running.opened.hold.close()
        self._health = Health.UNLOADED

    def models(self) -> Sequence[ModelCard]:
        """Say the one model, once it is loaded."""
        return () if self._running is None else (self._running.opened.card,)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Refuse: the model generates nothing."""
        raise Unsupported(f"{request.model} reads texts, and generates none")
        yield  # a generator all the same

    async def status(self) -> Status:
        """Say how the engine is."""
        if self._running is None:
            return Status(health=self._health, detail=self._detail)
        waiting = self._running.batcher.waiting
        return Status(
            health=self._health,
            detail=self._detail,
            waiting=waiting,
            steps=self._running.steps.count,
            drift=self._running.opened.drift,
        )

    def _reading(self) -> TextSide:
        running = self._ready()
        return TextSide(running.opened.text, running.reader)

    def _ready(self) -> RunningModel[L]:
        if self._running is None:
            raise Unavailable(self._detail or "the model is not loaded")
        return self._running
