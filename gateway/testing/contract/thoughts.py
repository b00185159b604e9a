"""The rules of an engine whose model thinks before it answers."""

from msgspec import structs

from gateway.engine import (
    Answer,
    Capability,
    Chat,
    Choice,
    Constraint,
    Delta,
    Engine,
    FinishReason,
    Message,
    Text,
    Usage,
)
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.verdict import expect

_MOST = 200
_BUDGET = 4
# What a budget may be exceeded by: the markers around the thought, and words that end it.
_AROUND = 24
_COLOURS = ("red", "green")


class ThoughtRules(Subject):
    """A thought is told apart from the answer, and counted."""

    async def test_a_thought_is_told_apart(self, engine: Engine) -> None:
        """Kills: a thought that is told as the answer, or not at all."""
        self.require(engine, Capability.CHAT, Capability.REASONING)
        answer = await self._think(engine, reasoning=True)
        expect(answer.reasoning, f"The model was to think; it said {answer.text!r:.60} without a thought.", Delta)

    async def test_a_thought_is_counted(self, engine: Engine) -> None:
        """Kills: thoughts that cost nothing, or more than the answer they are a part of."""
        self.require(engine, Capability.CHAT, Capability.REASONING)
        usage = (await self._think(engine, reasoning=True)).finished.usage
        expect(
            0 < usage.reasoning_tokens <= usage.completion_tokens,
            f"Of {usage.completion_tokens} tokens {usage.reasoning_tokens} are counted as thought.",
            Usage,
        )

    async def test_a_model_that_is_not_to_think_does_not(self, engine: Engine) -> None:
        """Kills: a switch that is taken for a wish."""
        self.require(engine, Capability.CHAT, Capability.REASONING)
        answer = await self._think(engine, reasoning=False)
        counted = answer.finished.usage.reasoning_tokens
        expect(
            not answer.reasoning and counted <= _AROUND,
            f"The model was not to think: it thought {answer.reasoning!r:.60}, {counted} tokens are counted.",
            Chat,
        )

    async def test_a_thought_keeps_to_its_budget(self, engine: Engine) -> None:
        """Kills: a budget that is not looked at."""
        self.require(engine, Capability.CHAT, Capability.REASONING, Capability.REASONING_BUDGET)
        answer = await self._think(engine, reasoning=True, budget=_BUDGET)
        used = answer.finished.usage.reasoning_tokens
        expect(used <= _BUDGET + _AROUND, f"{_BUDGET} tokens were there to think in; the thought has {used}.", Chat)

    async def test_an_answer_follows_the_thought_that_had_its_budget(self, engine: Engine) -> None:
        """Kills: a budget that ends the answer with the thought, and a constraint that does not wait for its end."""
        self.require(engine, Capability.CHAT, Capability.REASONING, Capability.REASONING_BUDGET, Capability.CHOICE)
        answer = await self._think(engine, reasoning=True, budget=_BUDGET, constraint=Choice(_COLOURS))
        expect(answer.reasoning, f"There were {_BUDGET} tokens to think in; the model used none.", Chat)
        expect(
            answer.text in _COLOURS and answer.finished.reason is FinishReason.STOP,
            f"Behind the thought comes {answer.text!r:.60}, ended by {answer.finished.reason}: not one of {_COLOURS}.",
            Choice,
        )

    async def _think(
        self, engine: Engine, *, reasoning: bool, budget: int | None = None, constraint: Constraint | None = None
    ) -> Answer:
        asked = (Message("user", (Text(f"{self.text} " * 8),)),)
        chat = Chat(asked, reasoning=reasoning, reasoning_budget=budget)
        request = self.request(engine, chat, max_tokens=_MOST, ignore_eos=False)
        return await self.answer_to(engine, structs.replace(request, constraint=constraint))
