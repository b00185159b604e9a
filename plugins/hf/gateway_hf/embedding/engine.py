"""A model that makes vectors of texts, as an engine."""

import asyncio
import functools
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple, Self

from gateway.engine import (
    Capability,
    Embeddings,
    EmbedRequest,
    Engine,
    GenerateEvent,
    GenerateRequest,
    Health,
    LoadFailed,
    ModelCard,
    Prompt,
    Status,
    TokenSpelling,
    Unavailable,
    Unsupported,
)
from gateway_hf.embedding.batcher import Batcher
from gateway_hf.embedding.encoder import Encoder, TokenRow
from gateway_hf.embedding.load import LoadedEncoder, load
from gateway_hf.reader import Reader, size_of, size_of_ids
from gateway_hf.settings import Settings
from gateway_hf.steps import StepCount

_CAPABILITIES = frozenset(
    {Capability.EMBEDDING, Capability.TOKENIZE, Capability.TOKEN_COUNT, Capability.TOKENIZER_INFO}
)
# Tokens of a pass, padding counted, and of a round, behind which the texts of a new request may join.
_PASS_TOKENS = 4_096
_ROUND_TOKENS = 8_192


class RunningEncoder(NamedTuple):
    """A loaded model, the line before it, and the threads that read texts."""

    loaded: LoadedEncoder
    card: ModelCard
    batcher: Batcher
    reader: Reader
    steps: StepCount


class EmbeddingEngine(Engine):
    """Serves one model that makes vectors: a thread computes, others read texts, the event loop does neither."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._health = Health.UNLOADED
        self._detail = ""
        self._running: RunningEncoder | None = None

    async def __aenter__(self) -> Self:
        """Load the model; raise `LoadFailed` when it cannot be loaded."""
        self._health, self._detail = Health.STARTING, "the model is loading"
        try:
            loaded = await asyncio.to_thread(load, self._settings)
        except LoadFailed as error:
            self._health, self._detail = Health.FAILED, error.message
            raise
        steps = StepCount()
        batcher = Batcher(functools.partial(_compute, loaded.encoder, steps), _ROUND_TOKENS)
        self._running = RunningEncoder(loaded, _card_of(loaded, self._settings), batcher, Reader(steps.tick), steps)
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
        if running.loaded.hold is not None:
            running.loaded.hold.close()
        self._health = Health.UNLOADED

    def models(self) -> Sequence[ModelCard]:
        """Say the one model, once it is loaded."""
        return () if self._running is None else (self._running.card,)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Refuse: the model makes vectors."""
        raise Unsupported(f"{request.model} makes vectors, and no text")
        yield  # a generator all the same

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Return a vector for each input."""
        running = self._ready()
        size = running.loaded.size
        if request.dimensions is not None and request.dimensions > size:
            raise Unsupported(f"a vector of {request.model} has {size} numbers", param="dimensions")
        job = functools.partial(running.loaded.reader.read, request)
        rows = await running.reader.read(job, sum(map(size_of, request.inputs)))
        vectors = await running.batcher.embed(rows)
        if request.dimensions is not None and request.dimensions < size:
            vectors = [running.loaded.encoder.shorten(vector, request.dimensions) for vector in vectors]
        return Embeddings(tuple(vectors), sum(len(row.ids) for row in rows))

    async def count_tokens(self, model: str, prompt: Prompt) -> int:
        """Count the tokens of a text."""
        return len(await self.tokenize(model, prompt))

    async def tokenize(self, model: str, prompt: Prompt) -> tuple[int, ...]:
        """Return the tokens of a text."""
        del model
        running = self._ready()
        job = functools.partial(running.loaded.text.tokenize, prompt)
        return tuple(await running.reader.read(job, size_of(prompt)))

    async def detokenize(self, model: str, ids: Sequence[int]) -> tuple[str, ...]:
        """Return the text of each token."""
        del model
        running = self._ready()
        return await running.reader.read(functools.partial(running.loaded.text.detokenize, ids), size_of_ids(len(ids)))

    async def spell(self, model: str, ids: Sequence[int]) -> tuple[TokenSpelling, ...]:
        """Return how the vocabulary spells each token."""
        del model
        running = self._ready()
        return await running.reader.read(functools.partial(running.loaded.text.spell, ids), size_of_ids(len(ids)))

    async def tokenizer_info(self, model: str) -> dict[str, Any]:
        """Return the tokenizer's configuration."""
        del model
        return self._ready().loaded.text.describe()

    async def status(self) -> Status:
        """Say how the engine is."""
        if self._running is None:
            return Status(health=self._health, detail=self._detail)
        waiting = self._running.batcher.waiting
        return Status(health=self._health, detail=self._detail, waiting=waiting, steps=self._running.steps.count)

    def _ready(self) -> RunningEncoder:
        if self._running is None:
            raise Unavailable(self._detail or "the model is not loaded")
        return self._running


def _compute(encoder: Encoder, steps: StepCount, rows: Sequence[TokenRow]) -> list[bytes]:
    vectors = encoder.encode(rows, _PASS_TOKENS, steps.tick)
    return [row.numpy().tobytes() for row in vectors]


def _card_of(loaded: LoadedEncoder, settings: Settings) -> ModelCard:
    return ModelCard(
        name=loaded.name,
        aliases=loaded.aliases,
        context_window=loaded.window,
        capabilities=_CAPABILITIES,
        places=settings.places,
        vocabulary=loaded.vocabulary,
        fingerprint=loaded.fingerprint,
        device=loaded.device,
        dtype=loaded.dtype,
        note=loaded.note,
    )
