"""The rules of an engine that says how likely the tokens of a prompt were."""
# ruff: noqa: PLR2004 - a test is full of its own numbers

import math
from collections.abc import Sequence

import pytest

from gateway.engine import Answer, Capability, Completion, Engine, Started, TokenLogprob
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.verdict import expect


class ScoreRules(Subject):
    """Each token of the prompt has its log probability, whatever the engine remembers of the prompt."""

    async def test_every_token_of_a_prompt_is_scored(self, engine: Engine) -> None:
        """Kills: a prompt of which the first or the last token is left out."""
        answer = await self._ask(engine, 2)
        first, *others = _scores(answer)
        tokens = answer.finished.usage.prompt_tokens
        expect(len(others) == tokens - 1 > 0, f"{len(others) + 1} tokens of a prompt of {tokens} are scored.", Started)
        expect(
            (first.logprob, first.top) == (0.0, ()),
            f"The first token has the logprob {first.logprob} and {len(first.top)} alternatives: nothing comes before "
            "it, so 0 and none.",
            Started,
        )
        for token in others:
            sound = math.isfinite(token.logprob) and token.logprob <= 0
            expect(sound, f"The logprob {token.logprob} is no logarithm of a probability.", TokenLogprob)

    async def test_the_likeliest_in_a_tokens_place_come_in_order(self, engine: Engine) -> None:
        """Kills: alternatives that are not the likeliest."""
        for token in _scores(await self._ask(engine, 3))[1:]:
            ranked = [other.logprob for other in token.top]
            expect(
                len(ranked) == 3 and ranked == sorted(ranked, reverse=True) and token.logprob <= ranked[0],
                f"3 alternatives were asked for, the likeliest first: {ranked} in the place of {token.logprob}.",
                TokenLogprob,
            )

    async def test_scores_without_alternatives_have_none(self, engine: Engine) -> None:
        """Kills: 0 alternatives that are taken for no wish."""
        scores = _scores(await self._ask(engine, 0))
        expect(len(scores) > 1, "`prompt_logprobs` 0 scores the prompt without alternatives.", Started)
        named = [token for token in scores if token.top]
        expect(not named, f"{len(named)} tokens have alternatives, and 0 were asked for.", TokenLogprob)

    async def test_scores_that_nobody_asked_for_are_not_told(self, engine: Engine) -> None:
        """Kills: an answer that is slower for scores that no client reads."""
        told = (await self._ask(engine, None)).started.prompt_logprobs
        expect(told is None, "Scores of the prompt are told and were not asked for.", Started)

    async def test_a_prompt_that_was_read_before_is_scored_the_same(self, engine: Engine) -> None:
        """Kills: a prompt of which only the part is scored that no cache held."""
        self.require_repeatable()
        await self._ask(engine, None)
        once, again = [[(token.id, token.logprob) for token in _scores(await self._ask(engine, 0))] for _ in range(2)]
        same = [token for token, _ in once] == [token for token, _ in again] and all(
            math.isclose(one, other, abs_tol=1e-3) for (_, one), (_, other) in zip(once, again, strict=True)
        )
        expect(same, f"Asked again the prompt has other scores: {again!r:.80}, before {once!r:.80}.", Started)

    async def test_the_texts_of_a_prompts_tokens_are_the_prompt(self, engine: Engine) -> None:
        """Kills: tokens that lose the space before them, or that the tokenizer put in by itself."""
        self.require(engine, Capability.PROMPT_LOGPROBS, Capability.COMPLETION)
        prompt = self.prompt(engine, self.text)
        if not isinstance(prompt, Completion):
            pytest.skip("this model's prompts are no raw texts")
        joined = "".join(
            token.text for token in _scores(await self.answer(engine, prompt, prompt_logprobs=0, max_tokens=1))
        )
        expect(joined == prompt.text, f"The prompt's tokens together are {joined!r:.80}, not the prompt.", TokenLogprob)

    async def _ask(self, engine: Engine, ranks: int | None) -> Answer:
        """Ask for one token after a prompt of some length."""
        self.require(engine, Capability.PROMPT_LOGPROBS)
        return await self.answer(engine, self.text * 4, prompt_logprobs=ranks, max_tokens=1)


def _scores(answer: Answer) -> Sequence[TokenLogprob]:
    told = answer.started.prompt_logprobs
    expect(told, "`prompt_logprobs` was asked for, and `Started` has none.", Started)
    return told or ()
