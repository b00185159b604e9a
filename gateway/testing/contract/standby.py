"""Rules about work that stands by: it is computed in what no other request takes, and costs them nothing."""

import asyncio
from contextlib import aclosing

from msgspec import structs

from gateway.engine import Answer, Capability, Delta, Engine, Finished, GenerateRequest, Started, collect
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.verdict import Within, expect

_SAID = 8


class StandbyRules(Subject):
    """A model whose card lists `standby` puts such requests aside while there are others, and goes on with them."""

    async def test_work_that_stands_by_waits_for_the_others(self, engine: Engine) -> None:
        """Kills: work that is computed beside a request, or is lost after it."""
        self.require(engine, Capability.STANDBY)
        async with aclosing(self.stream(engine, self.slow_request(engine))) as busy:
            await anext(busy)
            waiting = asyncio.create_task(self._whole(engine, _standing(self.request(engine, max_tokens=2))))
            async with Within(self.patience, "A slow answer goes on beside work that stands by."):
                for _ in range(_SAID):
                    await anext(busy)
            expect(not waiting.done(), "Work that stands by was computed while another request ran.", Capability)
        async with Within(self.patience, "Work that stands by goes on once there is no other request."):
            answer = await waiting
        expect(isinstance(answer.finished, Finished), "Work that stands by comes to its end.")

    async def test_work_that_stands_by_takes_no_place_and_keeps_what_it_has(self, engine: Engine) -> None:
        """Kills: a place that work keeps from a request, and an answer that begins anew after one."""
        self.require(engine, Capability.STANDBY)
        asked = _standing(self.request(engine))
        alone = await self.answer_to(engine, asked)
        places = self.card(engine).places
        streams = [self.stream(engine, asked) for _ in range(places)]
        async with Within(self.patience, f"Work that stands by begins where all places are free ({places})."):
            begun = await asyncio.gather(*map(anext, streams))
        expect(all(isinstance(event, Started) for event in begun), "A stream begins with `Started`.")
        async with Within(self.patience, "A request finds a place although work that stands by has them all."):
            await self.answer(engine)
        async with Within(self.patience, "Work that stands by goes on once there is no other request."):
            rests = [[event async for event in stream] for stream in streams]
        for rest in rests:
            text = "".join(event.text for event in rest if isinstance(event, Delta))
            is_same = not self.repeatable or text == alone.text
            expect(is_same, f"Put aside and taken up again, it says {text!r:.60}, alone {alone.text!r:.60}.")

    async def _whole(self, engine: Engine, request: GenerateRequest) -> Answer:
        async with aclosing(self.stream(engine, request)) as stream:
            return await collect(stream)


def _standing(request: GenerateRequest) -> GenerateRequest:
    return structs.replace(request, standby=0.0)
