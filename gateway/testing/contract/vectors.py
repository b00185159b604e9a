"""Rules about vectors of texts."""

import asyncio
import math
import struct

import pytest

from gateway.engine import (
    Capability,
    Completion,
    ContextTooLong,
    Embeddings,
    EmbedRequest,
    Engine,
    ModelCard,
    Unsupported,
)
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.verdict import broken, expect

_NUMBER = 4
_NEAR = 1e-2


class VectorRules(Subject):
    """A model whose card lists `embedding` makes vectors."""

    async def test_each_text_has_its_vector(self, engine: Engine) -> None:
        """Kills: vectors of another number, order or length."""
        made = await self._embed(engine, self.text, "another text", self.text)
        count = len(made.vectors)
        expect(count == len("123"), f"Three texts have {count} vectors.", Embeddings)
        first, other, again = made.vectors
        expect(_near(first, again), "One text has two vectors.", Embeddings)
        expect(first != other, "Two texts have one vector: are they in the order of the texts?", Embeddings)
        expect(len(first) == len(other) > 0, f"The vectors have {len(first)} and {len(other)} bytes.", Embeddings)
        expect(len(first) % _NUMBER == 0, f"A vector has {len(first)} bytes, and a float32 four.", Embeddings)
        expect(made.prompt_tokens > 0, f"The texts have {made.prompt_tokens} tokens.", Embeddings)

    async def test_a_vector_is_the_same_alone_and_beside_others(self, engine: Engine) -> None:
        """Kills: texts of several requests that are mixed up, or padding that is read."""
        texts = [f"{self.text}{number} " * (1 + number % 3) for number in range(9)]
        alone = [(await self._embed(engine, text)).vectors[0] for text in texts]
        together = await asyncio.gather(*(self._embed(engine, *texts[at:], *texts[:at]) for at in range(len(texts))))
        for at, made in enumerate(together):
            turned = [*alone[at:], *alone[:at]]
            same = all(_near(one, other) for one, other in zip(made.vectors, turned, strict=True))
            expect(same, "A text has another vector where others are asked for at the same time.", Embeddings)

    async def test_a_shorter_vector_is_the_beginning_of_the_whole(self, engine: Engine) -> None:
        """Kills: `dimensions` that are not looked at; more than there are."""
        (whole,) = (await self._embed(engine, self.text)).vectors
        size = len(whole) // _NUMBER
        half = max(size // 2, 1)
        (short,) = (await self._embed(engine, self.text, dimensions=half)).vectors
        expect(len(short) == half * _NUMBER, f"{half} numbers are asked for, and {len(short) // 4} come.", EmbedRequest)
        beginning = whole[: half * _NUMBER]
        same = _near(short, beginning) or _near(short, _normalized(beginning))
        expect(same, "A shorter vector is not the beginning of the whole one, nor that normalized.", EmbedRequest)
        with pytest.raises(Unsupported) as refused:
            await self._embed(engine, self.text, dimensions=size + 1)
        expect(refused.value.param == "dimensions", f"The error names {refused.value.param!r}.", EmbedRequest)

    async def test_a_long_text_is_refused_or_cut(self, engine: Engine) -> None:
        """Kills: a text that is cut without being asked, or read whole where it is to be cut."""
        card = self._model(engine)
        long = f"{self.text} " * card.context_window
        try:
            await self._embed(engine, long)
        except ContextTooLong:
            pass
        else:
            broken("A text that is longer than the context is read all the same.", Engine.embed)
        made = await self._embed(engine, long, truncate=card.context_window)
        expect(
            0 < made.prompt_tokens <= card.context_window,
            f"{card.context_window} tokens are to be read, and {made.prompt_tokens} were.",
            EmbedRequest,
        )

    async def _embed(
        self, engine: Engine, *texts: str, dimensions: int | None = None, truncate: int | None = None
    ) -> Embeddings:
        model = self._model(engine).name
        inputs = tuple(map(Completion, texts))
        asked = EmbedRequest(
            id="contract-embed", model=model, inputs=inputs, dimensions=dimensions, truncate=truncate, timeout=60
        )
        return await engine.embed(asked)

    def _model(self, engine: Engine) -> ModelCard:
        cards = [card for card in self.cards(engine) if Capability.EMBEDDING in card.capabilities]
        if not cards:
            pytest.skip("no card lists embedding")
        return cards[0]


def _numbers(vector: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // _NUMBER}f", vector)


def _norm(numbers: tuple[float, ...]) -> float:
    return math.hypot(*numbers)


def _normalized(vector: bytes) -> bytes:
    numbers = _numbers(vector)
    return struct.pack(f"<{len(numbers)}f", *(number / (_norm(numbers) or 1.0) for number in numbers))


def _near(one: bytes, other: bytes) -> bool:
    """Tell whether two vectors are equal, but for how numbers are rounded where texts are computed together."""
    if len(one) != len(other):
        return False
    numbers, others = _numbers(one), _numbers(other)
    size = max(_norm(numbers), _norm(others), 1e-9)
    return all(abs(a - b) < _NEAR * size for a, b in zip(numbers, others, strict=True))
