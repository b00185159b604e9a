"""Rules about an engine's life cycle: cards, status, entering and leaving."""

from collections.abc import Callable
from contextlib import aclosing

import msgspec

from gateway.engine import Capability, Engine, EngineError, Health, ModelCard, Started, Status, Unavailable
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.verdict import Within, broken, expect

MakeEngine = Callable[[], Engine]


class LifeRules(Subject):
    """Rules that hold before, while and after an engine is entered."""

    async def test_a_served_name_has_no_slash(self, engine: Engine) -> None:
        """Kills: the full id as the name."""
        names = [card.name for card in self.cards(engine)]
        expect(names, "An entered engine serves at least one model.", Engine.models)
        for name in names:
            expect(
                name and "/" not in name,
                f"The model's name {name!r} is empty or has a slash: take the last part, and list the id in `aliases`.",
                ModelCard,
            )
        expect(len(set(names)) == len(names), f"Two models have one name: {sorted(names)}.", ModelCard)

    async def test_a_card_counts_what_admission_counts(self, engine: Engine) -> None:
        """Kills: a model without a place to run in."""
        for card in self.cards(engine):
            for field in ("places", "context_window"):
                said = getattr(card, field)
                expect(said >= 1, f"The card of {card.name} has {field} = {said}: it is 1 at least.", ModelCard)

    async def test_a_card_lists_what_every_model_can(self, engine: Engine) -> None:
        """Kills: a model that cannot be told when to end."""
        for card in self.cards(engine):
            if card.capabilities & {Capability.CHAT, Capability.COMPLETION}:
                missing = sorted({Capability.MAX_TOKENS, Capability.STOP} - card.capabilities)
                expect(
                    not missing,
                    f"The card of {card.name} makes text and does not list {', '.join(missing)}, which all such do.",
                    Capability,
                )

    async def test_cards_and_status_survive_the_wire(self, engine: Engine) -> None:
        """Kills: a card whose fields are not of their types."""
        cards, status = list(self.cards(engine)), await engine.status()
        for said in (*cards, status):
            try:
                read = msgspec.msgpack.decode(msgspec.msgpack.encode(said), type=type(said))
            except msgspec.MsgspecError as error:
                broken(f"{said!r:.80} does not come out of MessagePack: {error}.", type(said))
            expect(read == said, f"{said!r:.80} comes out of MessagePack as {read!r:.80}.", type(said))

    async def test_status_never_raises(self, make_engine: MakeEngine) -> None:
        """Kills: a status that reads state which only an entered engine has."""
        engine = make_engine()
        await _status(engine, "before the engine is entered")
        async with engine:
            health = (await _status(engine, "of an entered engine")).health
            expect(health is Health.READY, f"An entered engine is ready; this one says {health}.", Health)
            async with aclosing(self.stream(engine, self.slow_request(engine))) as stream:
                await anext(stream)
                await _status(engine, "while an answer runs")
        await _status(engine, "after the engine was left")

    async def test_leaving_twice_is_harmless(self, make_engine: MakeEngine) -> None:
        """Kills: releasing a resource twice."""
        engine = await make_engine().__aenter__()
        await engine.__aexit__(None, None, None)
        try:
            await engine.__aexit__(None, None, None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the fault
            broken(f"Leaving the engine again raises {error!r:.80}: `__aexit__` may come twice.", Engine.__aexit__)

    async def test_leaving_leaves_no_reader_waiting(self, make_engine: MakeEngine) -> None:
        """Kills: an end that the readers are not told of."""
        async with make_engine() as engine:
            stream = self.stream(engine, self.request(engine, max_tokens=self.slow_tokens // 20))
            await anext(stream)
        ends = "A stream that is read when the engine is left ends, or raises an EngineError."
        async with Within(self.patience, ends, Engine.__aexit__), aclosing(stream):
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
        except Exception as error:  # noqa: BLE001 - as above
            broken(f"An engine that was left raises {error!r:.80} where Unavailable is right.", Unavailable)
        expect(events and isinstance(events[0], Started), f"An engine that was left tells {events[:1]!r:.60} first.")


async def _status(engine: Engine, when: str) -> Status:
    """Ask for the status; fail the test where there is none."""
    try:
        status = await engine.status()
    except Exception as error:  # noqa: BLE001 - as above
        broken(f"`status` raises {error!r:.80} {when}: it never raises, a broken engine says so.", Engine.status)
    expect(isinstance(status, Status), f"`status` returns {status!r:.60} {when}, no Status.", Engine.status)
    return status
