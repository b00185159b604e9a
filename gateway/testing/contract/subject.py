"""What the rules need to know about the engine under test, and how they ask it."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
import pytest
import pytest_asyncio

from gateway.engine import (
    Answer,
    Capability,
    Chat,
    Completion,
    Engine,
    GenerateEvent,
    GenerateRequest,
    Message,
    ModelCard,
    Prompt,
    Sampling,
    Text,
    collect,
)

_numbers = itertools.count(1)


class Subject:
    """Facts about the engine under test; a plugin overrides what is not true of it.

    `text` is a prompt that the model goes on from; with the end of sequence ignored, `slow_tokens` of an answer to
    it take ten seconds or more. `written` is a text whose characters take several tokens. An answer of a few tokens
    takes less than `patience` seconds. A `repeatable` model says the same when it is asked the same (greedy, where
    its card allows that). A `constant` one says the same to every prompt.
    """

    pytestmark = pytest.mark.asyncio

    text: str = "Once upon a time there was "
    written: str = "Grüße, 世界! 🙂 und 👩‍🚀 von 나, مرحبا."
    slow_tokens: int = 1000
    patience: float = 20.0
    repeatable: bool = True
    constant: bool = False

    @pytest.fixture
    def make_engine(self) -> Callable[[], Engine]:
        """Return what makes a new engine, which is not entered yet. Every plugin overrides this fixture."""
        raise NotImplementedError("override the fixture make_engine")

    @pytest_asyncio.fixture
    async def engine(self, make_engine: Callable[[], Engine]) -> AsyncGenerator[Engine, None]:
        """Enter a new engine for one test."""
        async with make_engine() as engine:
            yield engine

    def prompt(self, engine: Engine, text: str) -> Prompt:
        """Make a prompt of `text`: raw where the model takes that, else a conversation."""
        if Capability.COMPLETION in self.card(engine).capabilities:
            return Completion(text)
        return Chat((Message("user", (Text(text),)),))

    def prompt_for(self, answer: str) -> Prompt | None:
        """Make a prompt to which the model answers exactly `answer`, where there is one."""
        del answer
        return None

    def card(self, engine: Engine) -> ModelCard:
        """Return the card of the model under test: the first that makes text."""
        return next(card for card in engine.models() if card.capabilities & {Capability.COMPLETION, Capability.CHAT})

    def require(self, engine: Engine, *capabilities: Capability) -> None:
        """Skip the test, saying why, unless the model's card lists the capabilities."""
        card = self.card(engine)
        if missing := sorted(set(capabilities) - card.capabilities):
            pytest.skip(f"the card of {card.name} does not list {', '.join(missing)}")

    def require_repeatable(self) -> None:
        """Skip the test, saying why, unless the model can be asked again for what it said."""
        if not self.repeatable:
            pytest.skip("asked the same, this model may answer otherwise")

    def request(self, engine: Engine, prompt: str | Prompt | None = None, **sampling: object) -> GenerateRequest:
        """Ask for eight tokens, greedy and past the end of sequence where the card allows; `sampling` changes that."""
        card = self.card(engine)
        usual: dict[str, object] = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True}
        listed = {name: value for name, value in usual.items() if name in card.capabilities}
        if prompt is None or isinstance(prompt, str):
            prompt = self.prompt(engine, prompt or self.text)
        chosen = msgspec.convert(listed | sampling, Sampling)
        return GenerateRequest(id=f"contract-{next(_numbers)}", model=card.name, prompt=prompt, sampling=chosen)

    def slow_request(self, engine: Engine) -> GenerateRequest:
        """Ask for an answer that takes ten seconds, or half of the context where that is less."""
        return self.request(engine, max_tokens=min(self.slow_tokens, self.card(engine).context_window // 2))

    async def events(self, engine: Engine, request: GenerateRequest) -> list[GenerateEvent]:
        """Read a stream to its end."""
        async with asyncio.timeout(self.patience), aclosing(engine.generate(request)) as stream:
            return [event async for event in stream]

    async def answer(self, engine: Engine, prompt: str | Prompt | None = None, **sampling: object) -> Answer:
        """Generate a whole answer."""
        async with (
            asyncio.timeout(self.patience),
            aclosing(engine.generate(self.request(engine, prompt, **sampling))) as stream,
        ):
            return await collect(stream)
