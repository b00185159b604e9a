"""The rules of an engine that says how likely the tokens of a prompt were."""
# ruff: noqa: S101, PLR2004 - assert is what a test does, and a test is full of its own numbers

import math
from collections.abc import Sequence

import pytest

from gateway.engine import Answer, Capability, Completion, Engine, TokenLogprob
from gateway.testing.contract.subject import Subject


class ScoreRules(Subject):
    """Each token of the prompt has its log probability, whatever the engine remembers of the prompt."""

    async def test_every_token_of_a_prompt_is_scored(self, engine: Engine) -> None:
        """Kills: a prompt of which the first or the last token is left out."""
        answer = await self._ask(engine, 2)
        first, *others = _scores(answer)
        assert len(others) == answer.finished.usage.prompt_tokens - 1
        assert (first.logprob, first.top) == (0.0, ())
        assert others
        assert all(math.isfinite(token.logprob) and token.logprob <= 0 for token in others)

    async def test_the_likeliest_in_a_tokens_place_come_in_order(self, engine: Engine) -> None:
        """Kills: alternatives that are not the likeliest."""
        for token in _scores(await self._ask(engine, 3))[1:]:
            ranked = [other.logprob for other in token.top]
            assert len(ranked) == 3
            assert ranked == sorted(ranked, reverse=True)
            assert token.logprob <= ranked[0]

    async def test_scores_without_alternatives_have_none(self, engine: Engine) -> None:
        """Kills: 0 alternatives that are taken for no wish."""
        scores = _scores(await self._ask(engine, 0))
        assert len(scores) > 1
        assert not [token for token in scores if token.top]

    async def test_scores_that_nobody_asked_for_are_not_told(self, engine: Engine) -> None:
        """Kills: an answer that is slower for what nobody reads."""
        assert (await self._ask(engine, None)).started.prompt_logprobs is None

    async def test_a_prompt_that_was_read_before_is_scored_the_same(self, engine: Engine) -> None:
        """Kills: a prompt of which only the part is scored that no cache held."""
        self.require_repeatable()
        await self._ask(engine, None)
        once, again = [_scores(await self._ask(engine, 0)) for _ in range(2)]
        assert [token.id for token in again] == [token.id for token in once]
        assert [token.logprob for token in again] == pytest.approx([token.logprob for token in once], abs=1e-3)

    async def test_the_texts_of_a_prompts_tokens_are_the_prompt(self, engine: Engine) -> None:
        """Kills: tokens that lose the space before them, or that the tokenizer put in by itself."""
        self.require(engine, Capability.PROMPT_LOGPROBS, Capability.COMPLETION)
        prompt = self.prompt(engine, self.text)
        assert isinstance(prompt, Completion)
        answer = await self.answer(engine, prompt, prompt_logprobs=0, max_tokens=1)
        assert "".join(token.text for token in _scores(answer)) == prompt.text

    async def _ask(self, engine: Engine, ranks: int | None) -> Answer:
        """Ask for one token after a prompt of some length."""
        self.require(engine, Capability.PROMPT_LOGPROBS)
        return await self.answer(engine, self.text * 4, prompt_logprobs=ranks, max_tokens=1)


def _scores(answer: Answer) -> Sequence[TokenLogprob]:
    assert answer.started.prompt_logprobs is not None, "no scores were told"
    return answer.started.prompt_logprobs
