"""Questions have few places of their own, and a queue of their own."""

import asyncio

import pytest

from gateway.admission import Admission, AdmissionSettings, WaitLimits
from gateway.engine import Completion, GenerateRequest, ModelCard, Overloaded, Started

CARD = ModelCard(name="m", context_window=10, capabilities=frozenset(), places=8, cache_tokens=10)


def ask(admission, caller="a", cost=1_000):
    request = GenerateRequest(id="", model="m", prompt=Completion("x"))
    return admission.ask(request, CARD, caller, WaitLimits(), cost)


async def wait_for_turn(admission):
    async with ask(admission):
        return True


async def test_the_places_of_questions_are_neither_those_of_the_batch_nor_its_cache():
    admission = Admission(AdmissionSettings(questions=2, waiting_questions=1))
    async with ask(admission) as one, ask(admission) as other:
        assert one.is_held
        assert other.is_held
        assert admission.queue(CARD).places.running == 0
        waiting = asyncio.create_task(wait_for_turn(admission))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await wait_for_turn(admission)
        one.settle(Started(None))
    assert await waiting


async def test_a_change_of_settings_is_for_questions_too():
    admission = Admission(AdmissionSettings(questions=1))
    async with ask(admission):
        waiting = asyncio.create_task(wait_for_turn(admission))
        await asyncio.sleep(0)
        assert not waiting.done()
        admission.configure(AdmissionSettings(questions=2))
        async with ask(admission):
            pass
        assert await waiting
