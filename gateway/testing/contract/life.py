"""Rules about an engine's life: its cards, its status, and how it is entered and left."""
# ruff: noqa: S101 - assert is what a test does

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import msgspec

from gateway.engine import Capability, Engine, EngineError, Health, ModelCard, Started, Status, Unavailable
from gateway.testing.contract.subject import Subject

MakeEngine = Callable[[], Engine]


class LifeRules(Subject):
    """What holds before, while and after an engine is entered."""

    async def test_a_served_name_has_no_slash(self, engine: Engine) -> None:
        """Kills: the full id as the name."""
        names = [card.name for card in engine.models()]
        assert names
        assert all(names)
        assert not [name for name in names if "/" in name]
        assert len(set(names)) == len(names)

    async def test_a_card_counts_what_admission_counts(self, engine: Engine) -> None:
        """Kills: a model without a place to run in."""
        for card in engine.models():
            assert card.places >= 1
            assert card.context_window >= 1

    async def test_a_card_lists_what_every_model_can(self, engine: Engine) -> None:
        """Kills: a model that cannot be told when to end."""
        for card in engine.models():
            if card.capabilities & {Capability.CHAT, Capability.COMPLETION}:
                assert card.capabilities >= {Capability.MAX_TOKENS, Capability.STOP}

    async def test_cards_and_status_survive_the_wire(self, engine: Engine) -> None:
        """Kills: a card whose fields are not of their types."""
        cards, status = list(engine.models()), await engine.status()
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(cards), type=list[ModelCard]) == cards
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(status), type=Status) == status

    async def test_status_never_raises(self, make_engine: MakeEngine) -> None:
        """Kills: a status that needs what only an entered engine has."""
        engine = make_engine()
        assert isinstance(await engine.status(), Status)
        async with engine:
            assert (await engine.status()).health is Health.READY
            async with aclosing(engine.generate(self.slow_request(engine))) as stream:
                await anext(stream)
                assert isinstance(await engine.status(), Status)
        assert isinstance(await engine.status(), Status)

    async def test_leaving_twice_is_harmless(self, make_engine: MakeEngine) -> None:
        """Kills: giving back what is gone already."""
        engine = await make_engine().__aenter__()
        await engine.__aexit__(None, None, None)
        await engine.__aexit__(None, None, None)

    async def test_leaving_leaves_no_reader_waiting(self, make_engine: MakeEngine) -> None:
        """Kills: an end that the readers are not told of."""
        async with make_engine() as engine:
            stream = engine.generate(self.request(engine, max_tokens=self.slow_tokens // 20))
            assert isinstance(await anext(stream), Started)
        async with asyncio.timeout(self.patience), aclosing(stream):
            try:
                async for _ in stream:
                    pass
            except EngineError:
                pass

    async def test_an_engine_that_was_left_answers_or_says_unavailable(self, make_engine: MakeEngine) -> None:
        """Kills: a request that waits for an engine which will never come back."""
        async with make_engine() as engine:
            request = self.request(engine)
        try:
            events = await self.events(engine, request)
        except Unavailable:
            return
        assert isinstance(events[0], Started)
