"""The rules of which tokens may be drawn."""

import itertools

import pytest

from gateway.engine import Capability, Completion, Engine, InvalidRequest, Sampling
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.verdict import expect, expect_refusal


class DrawRules(Subject):
    """What may not be drawn is never drawn."""

    async def test_only_allowed_tokens_are_drawn(self, engine: Engine) -> None:
        """Kills: a list of allowed tokens that is taken for a wish."""
        self.require(engine, Capability.ALLOWED_TOKEN_IDS, Capability.TOKENIZE, Capability.LOGPROBS)
        free = await self._drawn(engine)
        known = set(await engine.tokenize(self.card(engine).name, Completion(self.text, add_special=False)))
        allowed = tuple(sorted(known - {free[0]}))
        drawn = await self._drawn(engine, allowed_token_ids=allowed)
        other = set(drawn) - set(allowed)
        expect(drawn and not other, f"Only {allowed} may be drawn, and {sorted(other)} are too.", Sampling)

    async def test_no_allowed_token_is_a_refusal(self, engine: Engine) -> None:
        """Kills: an empty list that is taken for none."""
        self.require(engine, Capability.ALLOWED_TOKEN_IDS)
        stream = self.stream(engine, self.request(engine, allowed_token_ids=()))
        await expect_refusal(anext(stream), InvalidRequest, "No token may be drawn.")

    @pytest.mark.parametrize("length", [1, 2])
    async def test_a_bad_word_is_not_drawn(self, engine: Engine, length: int) -> None:
        """Kills: a bad word of which all tokens are drawn, one after the other."""
        self.require(engine, Capability.BAD_WORDS, Capability.TOKENIZE, Capability.LOGPROBS)
        self.require_repeatable()
        name, free = self.card(engine).name, await self._drawn(engine)
        for run in _runs(free, length):
            word = "".join(await engine.detokenize(name, run))
            spelled = await engine.tokenize(name, Completion(word, add_special=False)) if word.strip() == word else ()
            if spelled == run:
                drawn = await self._drawn(engine, bad_words=("\N{SNOWMAN}", word))
                expect(run not in _runs(drawn, length), f"{word!r} is a bad word, and its tokens {run} came.", Sampling)
                return
        pytest.skip(f"this model writes no word of {length} tokens")

    async def _drawn(self, engine: Engine, **sampling: object) -> tuple[int, ...]:
        answer = await self.answer(engine, None, logprobs=0, max_tokens=24, **sampling)
        return tuple(token.id for token in answer.logprobs)


def _runs(ids: tuple[int, ...], length: int) -> list[tuple[int, ...]]:
    """Return each run of so many tokens."""
    return [*itertools.pairwise(ids)] if length > 1 else [(each,) for each in ids]
