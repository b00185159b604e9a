"""What a plugin must do: two methods; the rest have defaults."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Self

from gateway.engine.errors import Unsupported
from gateway.engine.events import Embeddings, GenerateEvent, PromptReading, TextScores, TokenSpelling
from gateway.engine.reading import read_prompt
from gateway.engine.status import Health, Status
from gateway.engine.types import Chat, EmbedRequest, GenerateRequest, ModelCard, Prompt, ScoreRequest


class Engine(ABC):
    """A running backend that serves one or more models.

    Only `models` and `generate` are required. The gateway enters the engine before its first request and leaves it
    after the last. It never sends a request that needs a capability the model's card does not list.
    """

    @abstractmethod
    def models(self) -> Sequence[ModelCard]:
        """Say what is served; cheap, may be empty before the engine is entered."""

    @abstractmethod
    def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Yield `Started`, then deltas, then `Finished`; raise `EngineError`.

        Closing the generator cancels the work and frees what it held. That is the only way to cancel,
        so a `finally` is the whole of clean-up.
        """

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Turn texts into vectors; needs `Capability.EMBEDDING`."""
        raise Unsupported(f"{request.model} makes no embeddings")

    async def score(self, request: ScoreRequest) -> TextScores:
        """Score documents against queries, or classify them; needs `Capability.SCORE`, or `Capability.CLASSIFY`."""
        raise Unsupported(f"{request.model} scores no texts")

    async def count_tokens(self, model: str, prompt: Prompt) -> int:
        """Count what `generate` would report as the prompt's tokens; needs `Capability.TOKEN_COUNT`."""
        del prompt
        raise Unsupported(f"{model} does not count tokens")

    async def tokenize(self, model: str, prompt: Prompt) -> tuple[int, ...]:
        """Return the ids of the tokens that `generate` would read; needs `Capability.TOKENIZE`."""
        del prompt
        raise Unsupported(f"{model} does not show its tokens")

    async def detokenize(self, model: str, ids: Sequence[int]) -> tuple[str, ...]:
        """Return one piece of text a token, together the text of all; needs `Capability.TOKENIZE`.

        Special tokens are shown. A character of several tokens is in the piece of the last of them.
        """
        del ids
        raise Unsupported(f"{model} does not show its tokens")

    async def spell(self, model: str, ids: Sequence[int]) -> tuple[TokenSpelling, ...]:
        """Return how the vocabulary spells each token; needs `Capability.TOKENIZE`.

        The bytes of all are the text of all. By default both are the pieces of `detokenize`.
        """
        return tuple(TokenSpelling(piece, piece.encode()) for piece in await self.detokenize(model, ids))

    async def tokenizer_info(self, model: str) -> dict[str, Any]:
        """Return the tokenizer's configuration with its `tokenizer_class`; needs `Capability.TOKENIZER_INFO`."""
        raise Unsupported(f"{model} does not describe its tokenizer")

    async def render(self, model: str, chat: Chat) -> str:
        """Return a conversation as the chat template writes it; needs `Capability.TOKENIZE` and `Capability.CHAT`."""
        del chat
        raise Unsupported(f"{model} does not show its template")

    async def explain(self, request: GenerateRequest) -> PromptReading:
        """Say what `generate` would read for a request, and compute nothing.

        Raises what `generate` would before `Started` for a request that it cannot do. By default it says what the
        questions above tell; an engine that keeps prompts in a cache says what it would find there, too.
        """
        return await read_prompt(self, request)

    async def status(self) -> Status:
        """Say how the engine is. Never raises: a broken engine says so."""
        return Status(health=Health.READY)

    async def probe(self) -> bool | None:
        """Say whether what is behind the engine, as a server, can be asked; `None` where only a request can tell.

        It is asked while a model is left alone because it failed again and again: cheap, and within two seconds.
        """
        return None

    async def __aenter__(self) -> Self:
        """Load: be ready to serve on return, or raise with one line that says why not."""
        return self

    async def __aexit__(self, *_: object) -> None:  # noqa: B027 - an engine without resources has nothing to leave
        """Unload: end what runs and give the memory back; leaving twice is harmless."""
