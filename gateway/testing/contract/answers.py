"""Rules about what one answer says."""
# ruff: noqa: S101, PLR2004 - assert is what a test does, and a test is full of its own numbers

import asyncio
import itertools
import math
from contextlib import aclosing

import msgspec
import pytest

from gateway.engine import (
    Capability,
    Chat,
    Delta,
    Engine,
    Finished,
    FinishReason,
    GenerateEvent,
    InvalidRequest,
    Message,
    Started,
    Text,
    ToolDelta,
)
from gateway.testing.contract.subject import Subject


class AnswerRules(Subject):
    """The sentence that a stream is, and the sums in it."""

    async def test_a_stream_is_started_then_deltas_then_finished(self, engine: Engine) -> None:
        """Kills: a delta before `Started`."""
        first, *deltas, last = await self.events(engine, self.request(engine))
        assert isinstance(first, Started)
        assert deltas
        assert all(isinstance(event, Delta | ToolDelta) for event in deltas)
        assert isinstance(last, Finished)

    async def test_usage_covers_the_deltas(self, engine: Engine) -> None:
        """Kills: a token that is counted and not told."""
        first, *deltas, last = await self.events(engine, self.request(engine))
        assert isinstance(first, Started)
        assert isinstance(last, Finished)
        assert sum(delta.tokens for delta in deltas if isinstance(delta, Delta | ToolDelta)) == (
            last.usage.completion_tokens
        )
        assert last.usage.prompt_tokens == first.prompt_tokens
        assert last.usage.cached_tokens == first.cached_tokens <= first.prompt_tokens

    async def test_max_tokens_is_never_exceeded(self, engine: Engine) -> None:
        """Kills: one token more than was asked for."""
        for most in (1, 7):
            assert (await self.answer(engine, max_tokens=most)).finished.usage.completion_tokens <= most

    async def test_max_tokens_ends_the_answer_as_length(self, engine: Engine) -> None:
        """Kills: an answer that was cut and says that it ended."""
        self.require(engine, Capability.IGNORE_EOS)
        for most in (1, 7):
            finished = (await self.answer(engine, max_tokens=most)).finished
            assert finished.usage.completion_tokens == most
            assert finished.reason is FinishReason.LENGTH

    async def test_max_length_counts_the_prompt_too(self, engine: Engine) -> None:
        """Kills: a `max_length` that counts the answer alone."""
        self.require(engine, Capability.MAX_LENGTH, Capability.IGNORE_EOS)
        prompt_tokens = (await self.answer(engine)).finished.usage.prompt_tokens
        finished = (await self.answer(engine, max_tokens=None, max_length=prompt_tokens + 3)).finished
        assert finished.usage.completion_tokens == 3
        assert finished.reason is FinishReason.LENGTH

    async def test_the_same_seed_gives_the_same_text(self, engine: Engine) -> None:
        """Kills: drawing from a source that the seed does not set."""
        self.require(engine, Capability.SEED, Capability.TEMPERATURE)
        texts = {(await self.answer(engine, temperature=1.0, seed=7, max_tokens=16)).text for _ in range(3)}
        assert len(texts) == 1

    async def test_a_character_is_never_torn(self, engine: Engine) -> None:
        """Kills: decoding the bytes of each token on its own."""
        prompt = self.prompt_for(self.written)
        if prompt is None:
            pytest.skip("no prompt makes this model write a given text")
        events = await self.events(engine, self.request(engine, prompt, max_tokens=200, ignore_eos=False))
        texts = [event.text for event in events if isinstance(event, Delta)]
        assert "".join(texts) == self.written
        assert not [text for text in texts if "\N{REPLACEMENT CHARACTER}" in text or not _is_utf8(text)]

    async def test_count_tokens_agrees_with_the_answer(self, engine: Engine) -> None:
        """Kills: counting without what the tokenizer or the template adds."""
        self.require(engine, Capability.TOKEN_COUNT)
        request = self.request(engine)
        counted = await engine.count_tokens(request.model, request.prompt)
        assert counted == (await self.answer(engine, request.prompt)).started.prompt_tokens

    async def test_a_chat_gets_an_answer(self, engine: Engine) -> None:
        """Kills: a conversation of which only one message is counted."""
        self.require(engine, Capability.CHAT, Capability.TOKEN_COUNT)
        short = Chat((Message("user", (Text(self.text),)),))
        long = Chat((*short.messages, Message("assistant", (Text("Yes."),)), *short.messages))
        counts = []
        for prompt in (short, long):
            started = (await self.answer(engine, prompt)).started
            assert started.prompt_tokens == await engine.count_tokens(self.card(engine).name, prompt)
            counts.append(started.prompt_tokens)
        assert counts[0] < counts[1]

    async def test_every_token_has_its_logprob(self, engine: Engine) -> None:
        """Kills: a probability that is no logarithm."""
        self.require(engine, Capability.LOGPROBS)
        events = await self.events(engine, self.request(engine, logprobs=2))
        for delta in events:
            if isinstance(delta, Delta):
                assert len(delta.logprobs) == delta.tokens
                assert all(math.isfinite(token.logprob) and token.logprob <= 0 for token in delta.logprobs)
                assert all(len(token.top) == 2 for token in delta.logprobs)

    async def test_the_bytes_of_the_tokens_are_the_text(self, engine: Engine) -> None:
        """Kills: tokens that lose their spaces, or the bytes of a character of several tokens."""
        self.require(engine, Capability.LOGPROBS)
        prompt = self.prompt_for(self.written)
        if prompt is None:
            pytest.skip("no prompt makes this model write a given text")
        answer = await self.answer(engine, prompt, logprobs=0, max_tokens=200, ignore_eos=False)
        assert b"".join(token.encoded for token in answer.logprobs).decode() == answer.text

    async def test_events_survive_the_wire(self, engine: Engine) -> None:
        """Kills: a list where the struct says tuple."""
        request = self.request(engine)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=type(request)) == request
        events = await self.events(engine, request)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(events), type=list[GenerateEvent]) == events

    async def test_a_told_event_never_changes(self, engine: Engine) -> None:
        """Kills: deltas that share what the engine goes on writing to."""
        async with asyncio.timeout(self.patience), aclosing(engine.generate(self.request(engine))) as stream:
            told = [(event, msgspec.msgpack.encode(event)) async for event in stream]
        assert all(msgspec.msgpack.encode(event) == as_told for event, as_told in told)


class StopRules(Subject):
    """What ends an answer early."""

    async def test_a_stop_string_never_leaks(self, engine: Engine) -> None:
        """Kills: searching each delta on its own."""
        self.require(engine, Capability.STOP)
        texts = await self._texts(engine)
        whole = "".join(texts)
        for stop in _astride(texts):
            answer = await self.answer(engine, stop=(f"{stop}\0", stop), max_tokens=24)
            assert answer.text == whole[: whole.find(stop)]
            assert answer.finished.reason is FinishReason.STOP

    async def test_the_stop_string_that_was_met_is_reported(self, engine: Engine) -> None:
        """Kills: an answer that ends without saying why."""
        self.require(engine, Capability.STOP)
        stop = _astride(await self._texts(engine))[0]
        finished = (await self.answer(engine, stop=("\0", stop), max_tokens=24)).finished
        assert (finished.reason, finished.stop) == (FinishReason.STOP, stop)

    async def test_text_held_back_for_a_stop_string_is_not_lost(self, engine: Engine) -> None:
        """Kills: an end that forgets what was held back."""
        self.require(engine, Capability.STOP)
        whole = "".join(await self._texts(engine))
        answer = await self.answer(engine, stop=(f"{whole[-3:]}\0",), max_tokens=24)
        assert answer.text == whole
        assert answer.finished.stop is None

    async def test_min_tokens_comes_before_any_stop(self, engine: Engine) -> None:
        """Kills: a stop string that ends an answer which is still too short."""
        self.require(engine, Capability.MIN_TOKENS, Capability.STOP)
        whole = "".join(await self._texts(engine))
        answer = await self.answer(engine, stop=(whole[0],), min_tokens=6, max_tokens=24)
        assert answer.finished.usage.completion_tokens >= 6

    async def test_more_min_tokens_than_the_answer_may_have_are_refused(self, engine: Engine) -> None:
        """Kills: an answer that is shorter than was asked for."""
        self.require(engine, Capability.MIN_TOKENS)
        async with aclosing(engine.generate(self.request(engine, min_tokens=9, max_tokens=8))) as stream:
            with pytest.raises(InvalidRequest):
                await anext(stream)

    async def _texts(self, engine: Engine) -> list[str]:
        """Learn what the model says, to ask for it again."""
        self.require_repeatable()
        events = await self.events(engine, self.request(engine, max_tokens=24))
        return [event.text for event in events if isinstance(event, Delta) and event.text]


def _astride(texts: list[str]) -> list[str]:
    """Pick stop strings that lie over the border of two deltas, or in the middle of a single one."""
    pairs = [f"{left[-2:]}{right[:2]}" for left, right in itertools.pairwise(texts)]
    whole = "".join(texts)
    return pairs[1:4] or [whole[len(whole) // 2 :][:4]]


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
