"""Rules about the events of one answer."""
# ruff: noqa: PLR2004 - a test is full of its own numbers

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
    ModelCard,
    Started,
    StopStrings,
    Text,
    TokenLogprob,
    Usage,
    answer_limit,
)
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.verdict import expect, expect_refusal


class AnswerRules(Subject):
    """The order of a stream's events, and the token counts in it."""

    async def test_a_stream_is_started_then_deltas_then_finished(self, engine: Engine) -> None:
        """Kills: a delta before `Started`."""
        _, deltas, _ = await self.sentence(engine, self.request(engine))
        expect(deltas, "An answer of eight tokens has no delta: what was generated is told by `Delta` or `ToolDelta`.")

    async def test_usage_covers_the_deltas(self, engine: Engine) -> None:
        """Kills: a token that is counted and not told."""
        first, deltas, last = await self.sentence(engine, self.request(engine))
        told, counted = sum(delta.tokens for delta in deltas), last.usage.completion_tokens
        expect(
            told == counted,
            f"The deltas carry {told} tokens and `Finished` counts {counted}: they are the same.",
            Usage,
        )
        prompt = last.usage.prompt_tokens
        if first.prompt_tokens is not None:
            expect(
                first.prompt_tokens == prompt,
                f"`Started` says {first.prompt_tokens} tokens of prompt and `Finished` {prompt}: say None where only "
                "the end knows.",
                Started,
            )
            expect(
                first.cached_tokens == last.usage.cached_tokens <= prompt,
                f"`Started` says {first.cached_tokens} cached tokens of {prompt}, `Finished` "
                f"{last.usage.cached_tokens}: they are the same, and a part of the prompt.",
                Started,
            )

    async def test_max_tokens_is_never_exceeded(self, engine: Engine) -> None:
        """Kills: one token more than was asked for."""
        for most in (1, 7):
            made = (await self.usage(engine, max_tokens=most)).completion_tokens
            expect(made <= most, f"Asked for at most {most} tokens the answer has {made}.", answer_limit)

    async def test_max_tokens_ends_the_answer_as_length(self, engine: Engine) -> None:
        """Kills: an answer that was cut and says that it ended."""
        self.require(engine, Capability.IGNORE_EOS)
        for most in (1, 7):
            finished = (await self.answer(engine, max_tokens=most)).finished
            made = finished.usage.completion_tokens
            expect(made == most, f"Past the end of sequence the answer has all {most} tokens; this one has {made}.")
            _expect_length(finished)

    async def test_max_length_counts_the_prompt_too(self, engine: Engine) -> None:
        """Kills: a `max_length` that counts the answer alone."""
        self.require(engine, Capability.MAX_LENGTH, Capability.IGNORE_EOS)
        prompt = (await self.usage(engine)).prompt_tokens
        finished = (await self.answer(engine, max_tokens=None, max_length=prompt + 3)).finished
        made = finished.usage.completion_tokens
        expect(made == 3, f"A `max_length` of the prompt and 3 leaves 3 tokens; the answer has {made}.", answer_limit)
        _expect_length(finished)

    async def test_the_same_seed_gives_the_same_text(self, engine: Engine) -> None:
        """Kills: drawing from a source that the seed does not set."""
        self.require(engine, Capability.SEED, Capability.TEMPERATURE)
        texts = {(await self.answer(engine, temperature=1.0, seed=7, max_tokens=16)).text for _ in range(3)}
        expect(
            len(texts) == 1,
            f"Asked three times with one seed the model says {len(texts)} texts: draw from the seed alone, "
            "or do not list `seed`.",
            Capability,
        )

    async def test_a_character_is_never_torn(self, engine: Engine) -> None:
        """Kills: decoding the bytes of each token on its own."""
        prompt = self.prompt_for(self.written)
        if prompt is None:
            pytest.skip("no prompt makes this model write a given text")
        events = await self.events(engine, self.request(engine, prompt, max_tokens=200, ignore_eos=False))
        texts = [event.text for event in events if isinstance(event, Delta)]
        torn = [text for text in texts if "\N{REPLACEMENT CHARACTER}" in text or not _is_utf8(text)]
        sentence = "hold bytes back until they are whole characters."
        expect(not torn, f"A delta holds a torn character, {torn[:1]!r}: {sentence}", Delta)
        whole = "".join(texts)
        expect(whole == self.written, f"The deltas together are {whole!r}, not {self.written!r}: {sentence}", Delta)

    async def test_count_tokens_agrees_with_the_answer(self, engine: Engine) -> None:
        """Kills: counting without the tokens that the tokenizer or the template adds."""
        self.require(engine, Capability.TOKEN_COUNT)
        request = self.request(engine)
        counted = await engine.count_tokens(request.model, request.prompt)
        used = (await self.usage(engine, request.prompt)).prompt_tokens
        expect(counted == used, f"`count_tokens` says {counted} and the answer {used}.", Engine.count_tokens)

    async def test_a_chat_gets_an_answer(self, engine: Engine) -> None:
        """Kills: a conversation of which only one message is counted."""
        self.require(engine, Capability.CHAT, Capability.TOKEN_COUNT)
        short = Chat((Message("user", (Text(self.text),)),))
        long = Chat((*short.messages, Message("assistant", (Text("Yes."),)), *short.messages))
        counts = []
        for prompt in (short, long):
            used = (await self.usage(engine, prompt)).prompt_tokens
            counted = await engine.count_tokens(self.card(engine).name, prompt)
            expect(
                counted == used, f"Of a chat `count_tokens` says {counted} and the answer {used}.", Engine.count_tokens
            )
            counts.append(used)
        expect(
            counts[0] < counts[1],
            f"A chat of one message has {counts[0]} tokens and one of three {counts[1]}: all messages are read.",
            Chat,
        )

    async def test_every_token_has_its_logprob(self, engine: Engine) -> None:
        """Kills: a probability that is no logarithm."""
        self.require(engine, Capability.LOGPROBS)
        events = await self.events(engine, self.request(engine, logprobs=2))
        for delta in events:
            if isinstance(delta, Delta):
                scored = len(delta.logprobs)
                expect(scored == delta.tokens, f"A delta of {delta.tokens} tokens has {scored} logprobs.", Delta)
                for token in delta.logprobs:
                    expect(
                        math.isfinite(token.logprob) and token.logprob <= 0,
                        f"The logprob {token.logprob} is no logarithm of a probability.",
                        TokenLogprob,
                    )
                    expect(
                        len(token.top) == 2, f"2 alternatives were asked for, {len(token.top)} are told.", TokenLogprob
                    )

    async def test_the_bytes_of_the_tokens_are_the_text(self, engine: Engine) -> None:
        """Kills: tokens that lose their spaces, or the bytes of a character of several tokens."""
        self.require(engine, Capability.LOGPROBS)
        prompt = self.prompt_for(self.written)
        if prompt is None:
            pytest.skip("no prompt makes this model write a given text")
        answer = await self.answer(engine, prompt, logprobs=0, max_tokens=200, ignore_eos=False)
        joined = b"".join(token.encoded for token in answer.logprobs)
        expect(
            joined == answer.text.encode(),
            f"The bytes of all tokens are {joined!r:.80}, not those of the answer {answer.text!r:.40}.",
            TokenLogprob,
        )

    async def test_events_survive_the_wire(self, engine: Engine) -> None:
        """Kills: a list where the struct says tuple."""
        request = self.request(engine)
        events = await self.events(engine, request)
        read = msgspec.msgpack.decode(msgspec.msgpack.encode(events), type=list[GenerateEvent])
        for told, back in zip(events, read, strict=True):
            expect(
                told == back, f"{told!r:.80} comes out of MessagePack as {back!r:.80}: keep to the types.", type(told)
            )

    async def test_a_told_event_never_changes(self, engine: Engine) -> None:
        """Kills: deltas that share a list which the engine goes on writing to."""
        async with aclosing(self.stream(engine, self.request(engine))) as stream:
            told = [(event, msgspec.msgpack.encode(event)) async for event in stream]
        for event, as_told in told:
            expect(
                msgspec.msgpack.encode(event) == as_told,
                f"An event changed after it was told: {event!r:.80}. Put copies into events, not what grows.",
                type(event),
            )


class StopRules(Subject):
    """Stop strings and minimum lengths."""

    async def test_a_stop_string_never_leaks(self, engine: Engine) -> None:
        """Kills: searching each delta on its own."""
        self.require(engine, Capability.STOP)
        texts = await self._texts(engine)
        whole = "".join(texts)
        for stop in _astride(texts):
            answer = await self.answer(engine, stop=(f"{stop}\0", stop), max_tokens=24)
            wanted = whole[: whole.find(stop)]
            expect(
                answer.text == wanted,
                f"With the stop string {stop!r} the answer is {answer.text!r}, not {wanted!r}: it is cut before the "
                "string, wherever the deltas meet.",
                StopStrings,
            )
            expect(
                answer.finished.reason is FinishReason.STOP,
                f"An answer that a stop string ended says {answer.finished.reason}, not stop.",
                FinishReason,
            )

    async def test_the_stop_string_that_was_met_is_reported(self, engine: Engine) -> None:
        """Kills: an answer that ends without saying why."""
        self.require(engine, Capability.STOP)
        if not self.names_stops:
            pytest.skip("this engine does not know which stop string was met (`names_stops`)")
        stop = _astride(await self._texts(engine))[0]
        finished = (await self.answer(engine, stop=("\0", stop), max_tokens=24)).finished
        expect(
            (finished.reason, finished.stop) == (FinishReason.STOP, stop),
            f"The stop string {stop!r} ended the answer, and `Finished` says reason {finished.reason} and stop "
            f"{finished.stop!r}. Where the engine cannot know, set `names_stops = False` in its test.",
            Finished,
        )

    async def test_text_held_back_for_a_stop_string_is_not_lost(self, engine: Engine) -> None:
        """Kills: an end that loses the text held back."""
        self.require(engine, Capability.STOP)
        whole = "".join(await self._texts(engine))
        answer = await self.answer(engine, stop=(f"{whole[-3:]}\0",), max_tokens=24)
        expect(
            answer.text == whole,
            f"No stop string was met, and the answer is {answer.text!r}, not {whole!r}: flush what was held back.",
            StopStrings.flush,
        )
        expect(
            answer.finished.stop is None, f"No stop string was met, and {answer.finished.stop!r} is named.", Finished
        )

    async def test_a_stop_string_is_shown_where_that_is_asked_for(self, engine: Engine) -> None:
        """Kills: a stop string that is cut from an answer that was to keep it."""
        self.require(engine, Capability.STOP, Capability.INCLUDE_STOP_STR_IN_OUTPUT)
        texts = await self._texts(engine)
        whole, stop = "".join(texts), _astride(texts)[0]
        answer = await self.answer(engine, stop=(stop,), include_stop_str_in_output=True, max_tokens=24)
        wanted = whole[: whole.find(stop)] + stop
        expect(answer.text == wanted, f"The answer is {answer.text!r}, and {wanted!r} with its stop.", StopStrings)

    async def test_min_tokens_comes_before_any_stop(self, engine: Engine) -> None:
        """Kills: a stop string that ends an answer which is still too short."""
        self.require(engine, Capability.MIN_TOKENS, Capability.STOP)
        whole = "".join(await self._texts(engine))
        made = (await self.usage(engine, stop=(whole[0],), min_tokens=6, max_tokens=24)).completion_tokens
        expect(
            made >= 6, f"6 tokens at least were asked for, and a stop string ended the answer after {made}.", ModelCard
        )

    async def test_more_min_tokens_than_the_answer_may_have_are_refused(self, engine: Engine) -> None:
        """Kills: an answer that is shorter than was asked for."""
        self.require(engine, Capability.MIN_TOKENS)
        async with aclosing(self.stream(engine, self.request(engine, min_tokens=9, max_tokens=8))) as stream:
            await expect_refusal(anext(stream), InvalidRequest, "9 tokens at least and 8 at most cannot be had.")

    async def _texts(self, engine: Engine) -> list[str]:
        """Return the texts of an answer, to derive stop strings from."""
        self.require_repeatable()
        events = await self.events(engine, self.request(engine, max_tokens=24))
        texts = [event.text for event in events if isinstance(event, Delta) and event.text]
        expect(texts, "An answer of 24 tokens has no text to try stop strings on.", Delta)
        return texts


def _expect_length(finished: Finished) -> None:
    expect(
        finished.reason is FinishReason.LENGTH,
        f"An answer that was cut at its limit says {finished.reason}, not length.",
        FinishReason,
    )


def _astride(texts: list[str]) -> list[str]:
    """Pick stop strings that lie over the border of two deltas, or in the middle of a single one."""
    pairs = [f"{left[-2:]}{right[:2]}" for left, right in itertools.pairwise(texts)]
    whole = "".join(texts)
    return pairs[1:4] or [whole[len(whole) // 2 :][:4]]


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
