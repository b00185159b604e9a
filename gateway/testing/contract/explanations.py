"""Rules about what an engine says of a request that it has not begun."""

import itertools

import pytest

from gateway.engine import Capability, Chat, Completion, ContextTooLong, Engine, Message, Prompt, PromptReading, Text
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.verdict import expect, expect_refusal

_numbers = itertools.count(1)


class ExplainRules(Subject):
    """An explanation says what the answer then reads; it computes nothing, and refuses what the answer would."""

    async def test_an_explanation_says_what_the_answer_reads(self, engine: Engine) -> None:
        """Kills: a prompt that is read in one way to be explained, and in another to be answered."""
        for prompt in self._prompts(engine):
            request = self.request(engine, prompt)
            told = await self._explain(engine, prompt)
            read = (await self.answer_to(engine, request)).finished.usage.prompt_tokens
            expect(
                told.prompt_tokens == read,
                f"The explanation says {told.prompt_tokens} tokens of prompt, and the answer read {read}.",
                Engine.explain,
            )
            expect(
                told.ids is None or len(told.ids) == read,
                f"The explanation shows {len(told.ids or ())} tokens of {read}.",
                Engine.explain,
            )
            expect(
                told.max_tokens in (None, 8) or Capability.MAX_TOKENS not in self.card(engine).capabilities,
                f"8 tokens at most were asked for, and the explanation says {told.max_tokens}.",
                Engine.explain,
            )

    async def test_an_explanation_computes_nothing(self, engine: Engine) -> None:
        """Kills: an explanation that has the prompt read, and then finds it in the cache."""
        prompt = self.prompt(engine, f"{self.text} {next(_numbers)} times over. {self.text * 2}")
        told = [(await self._explain(engine, prompt)).cached_tokens for _ in range(2)]
        if told[0] is None:
            pytest.skip("this engine does not say what it would find in its cache")
        found = (await self.answer(engine, prompt)).finished.usage.cached_tokens
        expect(
            told == [found, found],
            f"The cache was said to have {told} tokens of the prompt, and the answer found {found}.",
            Engine.explain,
        )

    async def test_an_explanation_refuses_a_prompt_that_is_too_long(self, engine: Engine) -> None:
        """Kills: an explanation of a request that gets an error."""
        await self._explain(engine, self.prompt(engine, self.text))
        long = self.text * (self.card(engine).context_window + 1)
        refused = engine.explain(self.request(engine, long, max_tokens=None))
        await expect_refusal(refused, ContextTooLong, "A prompt that is longer than the context cannot be answered.")

    def _prompts(self, engine: Engine) -> list[Prompt]:
        prompts: list[Prompt] = [self.prompt(engine, self.text)]
        if Capability.CHAT in self.card(engine).capabilities and isinstance(prompts[0], Completion):
            prompts.append(Chat((Message("user", (Text(self.text),)),)))
        return prompts

    async def _explain(self, engine: Engine, prompt: Prompt) -> PromptReading:
        """Explain a request; skip the test where the engine does not even say how many tokens it has."""
        told = await engine.explain(self.request(engine, prompt))
        if told.prompt_tokens is None:
            pytest.skip("this engine does not say what it would read")
        return told
