"""The engine: a `llama-server` of its own, each request of ours one streamed request to it."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Self

from gateway.engine import (
    Chat,
    Engine,
    EngineError,
    GenerateEvent,
    GenerateRequest,
    Health,
    InvalidRequest,
    ModelCard,
    Prompt,
    PromptReading,
    Status,
    TokenSpelling,
    Unavailable,
)
from gateway_llamacpp.asking import to_asked
from gateway_llamacpp.loading import LoadedServer, load, unload
from gateway_llamacpp.process import LlamaServer
from gateway_llamacpp.settings import Settings

_log = logging.getLogger("gateway_llamacpp")


class LlamaCppEngine(Engine):
    """Serves one GGUF file by a `llama-server` that is its child."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._health, self._detail = Health.UNLOADED, ""
        self._loaded: LoadedServer | None = None
        self._watching: asyncio.Task[None] | None = None
        self._steps = 0

    async def __aenter__(self) -> Self:
        """Start the child and wait until it has loaded the model; raise `LoadFailed` when it cannot."""
        self._health, self._detail = Health.STARTING, "the model is loading"
        try:
            self._loaded = await load(self._settings)
        except EngineError as error:
            self._health, self._detail = Health.FAILED, error.message
            raise
        self._watching = asyncio.create_task(self._watch(self._loaded.server))
        self._health, self._detail = Health.READY, ""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the child, and every answer with it."""
        loaded, self._loaded = self._loaded, None
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
        if loaded is not None:
            self._health, self._detail = Health.UNLOADED, ""
            await unload(loaded.server, loaded.client)

    def models(self) -> Sequence[ModelCard]:
        """Say the one model, once it is loaded."""
        return () if self._loaded is None else (self._loaded.card,)

    async def status(self) -> Status:
        """Say how the engine is; a child that ended by itself is a failure, for which the process is replaced."""
        if self._loaded is None:
            return Status(health=self._health, detail=self._detail)
        places = self._loaded.places
        return Status(
            health=self._health,
            detail=self._detail,
            running=places.running,
            waiting=places.waiting,
            cache_used=places.used,
            steps=self._steps,
        )

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Read the prompt, take a place, and pass on what the model says; closing this frees the place."""
        loaded = self._ready()
        arrived = time.monotonic()
        asked = await to_asked(request, loaded.card, loaded.prompts, loaded.vocabulary)
        answer = asked.reader
        async with loaded.places.take(request.salt, asked.ids) as (place, may_reuse):
            answer.queue_seconds = time.monotonic() - arrived
            body = asked.body | {"id_slot": place.number, "cache_prompt": may_reuse}
            try:
                async with aclosing(loaded.client.pieces(asked.path, body)) as pieces:
                    async for piece in pieces:
                        self._steps += 1
                        for event in answer.feed(piece):
                            yield event
                        place.used = len(asked.ids) + answer.made
                        if answer.ended:
                            return
            except InvalidRequest as error:
                error.param = asked.param or error.param
                raise
            self._ready()
            raise EngineError("llama-server ended its answer before it was finished")

    async def explain(self, request: GenerateRequest) -> PromptReading:
        """Make ready what `generate` would ask, and ask nothing; what a place has of a prompt the server knows."""
        loaded = self._ready()
        asked = await to_asked(request, loaded.card, loaded.prompts, loaded.vocabulary)
        prompt = request.prompt
        text = await loaded.prompts.render(prompt) if isinstance(prompt, Chat) else getattr(prompt, "text", None)
        return PromptReading(len(asked.ids), asked.ids, text, max_tokens=asked.body["n_predict"])

    async def count_tokens(self, model: str, prompt: Prompt) -> int:
        """Count the tokens that the model would read."""
        return len(await self.tokenize(model, prompt))

    async def tokenize(self, model: str, prompt: Prompt) -> tuple[int, ...]:
        """Return what the model would read."""
        del model
        return await self._ready().prompts.encode(prompt)

    async def detokenize(self, model: str, ids: Sequence[int]) -> tuple[str, ...]:
        """Return the text of each token."""
        del model
        vocabulary = self._ready().vocabulary
        vocabulary.check(ids, "tokens")
        return tuple(vocabulary.pieces(ids))

    async def spell(self, model: str, ids: Sequence[int]) -> tuple[TokenSpelling, ...]:
        """Return how the vocabulary spells each token."""
        del model
        vocabulary = self._ready().vocabulary
        vocabulary.check(ids, "tokens")
        return vocabulary.spellings(ids)

    async def render(self, model: str, chat: Chat) -> str:
        """Return what the template writes."""
        del model
        return await self._ready().prompts.render(chat)

    def _ready(self) -> LoadedServer:
        if self._loaded is None:
            raise Unavailable(self._detail or "the model is not loaded")
        return self._loaded

    async def _watch(self, server: LlamaServer) -> None:
        """Say so when the child ends by itself."""
        how = await server.ended()
        self._health, self._detail = Health.FAILED, f"llama-server {how}"
        _log.error("llama-server %s: %s", how, server.last_words())
