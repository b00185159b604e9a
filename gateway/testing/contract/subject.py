"""Facts about the engine under test, and the ways in which the rules call it."""

import inspect
import itertools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import cast, get_args

import msgspec
import pytest
import pytest_asyncio

from gateway.engine import (
    Answer,
    Capability,
    Chat,
    Completion,
    Delta,
    Engine,
    Finished,
    GenerateEvent,
    GenerateRequest,
    Message,
    ModelCard,
    Prompt,
    Sampling,
    Started,
    Text,
    ToolDelta,
    Usage,
    collect,
)
from gateway.testing.contract.verdict import Within, broken, check_stream, expect

_numbers = itertools.count(1)
_ENDS = "A short answer comes to its end (`patience` is the time for it)."


class Subject:
    """Facts about the engine under test; a plugin overrides those that do not hold.

    `text` is a prompt that the model goes on from; with the end of sequence ignored, `slow_tokens` of an answer to
    it take ten seconds or more. `written` is a text whose characters take several tokens. An answer of a few tokens
    takes less than `patience` seconds. A `repeatable` model says the same when it is asked the same (greedy, where
    its card allows that). A `constant` one says the same to every prompt. An engine that `names_stops` says which stop
    string ended an answer; one that forwards to a server may not know. `excused` are rules that what is behind the
    engine cannot keep, by the names of their tests, each with its reason; they are skipped, and the reason is printed.
    """

    pytestmark = pytest.mark.asyncio

    text: str = "Once upon a time there was "
    written: str = "Grüße, 世界! 🙂 und 👩‍🚀 von 나, مرحبا."
    slow_tokens: int = 1000
    patience: float = 20.0
    repeatable: bool = True
    constant: bool = False
    names_stops: bool = True
    excused: Mapping[str, str] = {}

    def __init_subclass__(cls) -> None:
        """Raise `TypeError` where a rule is excused that there is not."""
        super().__init_subclass__()
        if unknown := sorted(name for name in cls.excused if not hasattr(cls, name)):
            raise TypeError(f"{cls.__name__} excuses {', '.join(unknown)}, which is no rule of its")

    @pytest.fixture(autouse=True)
    def _excuse(self, request: pytest.FixtureRequest) -> None:
        """Skip a rule that is excused, saying why."""
        if reason := self.excused.get(request.node.originalname):
            pytest.skip(f"excused: {reason}")

    @pytest.fixture
    def make_engine(self) -> Callable[[], Engine]:
        """Return a function that makes a new engine, not yet entered. Every plugin overrides this fixture."""
        raise NotImplementedError("override the fixture make_engine: let it return a function that makes an engine")

    @pytest_asyncio.fixture
    async def engine(self, make_engine: Callable[[], Engine]) -> AsyncGenerator[Engine, None]:
        """Enter a new engine for one test."""
        made = make_engine()
        expect(
            isinstance(made, Engine),
            f"`make_engine` made a {type(made).__name__}, which is no gateway.engine.Engine.",
            Engine,
        )
        async with made as engine:
            expect(
                isinstance(engine, Engine),
                f"`__aenter__` returns {engine!r:.40}, not the engine: end it with `return self`.",
                Engine.__aenter__,
            )
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

    def cards(self, engine: Engine) -> Sequence[ModelCard]:
        """Return the cards of all models."""
        cards = engine.models()
        if inspect.iscoroutine(cards):
            cards.close()
            broken("`models` is an `async def`; it is asked without `await`, so write a plain `def`.", Engine.models)
        if not isinstance(cards, Sequence) or not all(isinstance(card, ModelCard) for card in cards):
            broken(f"`models` returns {cards!r:.80}, not a list of ModelCard.", Engine.models)
        return cards

    def card(self, engine: Engine) -> ModelCard:
        """Return the card of the model under test: the first that makes text."""
        makes_text = {Capability.COMPLETION, Capability.CHAT}
        card = next((card for card in self.cards(engine) if card.capabilities & makes_text), None)
        if card is None:
            broken(
                "No card of an entered engine lists `completion` or `chat`: there is no model to ask.", Engine.models
            )
        return card

    def require(self, engine: Engine, *capabilities: Capability) -> None:
        """Skip the test, saying why, unless the model's card lists the capabilities."""
        card = self.card(engine)
        if missing := sorted(set(capabilities) - card.capabilities):
            pytest.skip(f"the card of {card.name} does not list {', '.join(missing)}")

    def require_repeatable(self) -> None:
        """Skip the test, saying why, unless the model repeats its answers."""
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

    def stream(self, engine: Engine, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Begin an answer; fail the test where `generate` is no asynchronous generator."""
        stream = engine.generate(request)
        check_stream(stream)
        return stream

    async def events(self, engine: Engine, request: GenerateRequest) -> list[GenerateEvent]:
        """Read a stream to its end; fail the test where it yields anything but events."""
        async with Within(self.patience, _ENDS), aclosing(self.stream(engine, request)) as stream:
            events = [event async for event in stream]
        for event in events:
            expect(isinstance(event, get_args(GenerateEvent)), f"`generate` yields {event!r:.60}, which is no event.")
        return events

    async def sentence(
        self, engine: Engine, request: GenerateRequest
    ) -> tuple[Started, list[Delta | ToolDelta], Finished]:
        """Read a whole stream; fail the test unless it is the sentence `Started (Delta | ToolDelta)* Finished`."""
        events = await self.events(engine, request)
        told = " ".join(type(event).__name__ for event in events[:6]) or "nothing"
        expect(events and isinstance(events[0], Started), f"A stream begins with `Started`; this one tells {told} …")
        last = events[-1]
        expect(isinstance(last, Finished), f"A stream ends with `Finished`; this one ends with {last!r:.60}.")
        between = [event for event in events[1:-1] if not isinstance(event, Delta | ToolDelta)]
        expect(not between, f"Only deltas come between `Started` and `Finished`; here are {between!r:.80} too.")
        return (
            cast("Started", events[0]),
            cast("list[Delta | ToolDelta]", events[1:-1]),
            cast("Finished", last),
        )

    async def answer(self, engine: Engine, prompt: str | Prompt | None = None, **sampling: object) -> Answer:
        """Generate a whole answer."""
        return await self.answer_to(engine, self.request(engine, prompt, **sampling))

    async def answer_to(self, engine: Engine, request: GenerateRequest) -> Answer:
        """Generate the whole answer to a request."""
        async with Within(self.patience, _ENDS), aclosing(self.stream(engine, request)) as stream:
            return await collect(stream)

    async def usage(self, engine: Engine, prompt: str | Prompt | None = None, **sampling: object) -> Usage:
        """Generate a whole answer and return its token usage."""
        return (await self.answer(engine, prompt, **sampling)).finished.usage
