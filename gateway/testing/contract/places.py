"""Rules about places: a reader that leaves gives its place back, and neighbours in the batch do not touch."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from gateway.engine import ContextTooLong, Engine, GenerateEvent, Started, Status
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.verdict import Within, expect, expect_refusal

# A place is free within a second; on a machine that is slow, within four times what short answers take.
_FREED_WITHIN = 1.0
_SLOWER = 4.0


class PlaceRules(Subject):
    """Each fills all places with answers that would take ten seconds, and wants them back within one.

    First it finds out how long short answers in all places take: on a machine that is busy or slow the second is
    longer, and so are the ten.
    """

    async def test_closing_the_stream_frees_its_place(self, engine: Engine) -> None:
        """Kills: a place that is given back only when the answer is complete."""
        freed = await self._freed_within(engine)
        streams = await self._fill(engine)
        async with Within(freed, "Closing a generator ends its work."):
            for stream in streams:
                await stream.aclose()
        await self._expect_free(engine, freed, "their generators were closed")

    async def test_cancelling_the_reader_frees_its_place(self, engine: Engine) -> None:
        """Kills: a cancellation that is swallowed."""
        freed = await self._freed_within(engine)
        places = self.card(engine).places
        started = asyncio.Semaphore(0)
        streams = [self.stream(engine, self.slow_request(engine)) for _ in range(places)]
        readers = [asyncio.create_task(_read(stream, started)) for stream in streams]
        async with Within(self.patience, f"As many answers start side by side as the card has places ({places})."):
            for _ in range(places):
                await started.acquire()
        for reader in readers:
            reader.cancel()
        async with Within(freed, "A reader that is cancelled ends: CancelledError is passed on."):
            await asyncio.gather(*readers, return_exceptions=True)
        await self._expect_free(engine, freed, "their readers were cancelled")

    async def test_a_reader_that_leaves_the_line_takes_no_place(self, engine: Engine) -> None:
        """Kills: a queue that still counts a reader that has left it."""
        freed = await self._freed_within(engine)
        streams = await self._fill(engine)
        late = asyncio.create_task(_read(self.stream(engine, self.slow_request(engine)), asyncio.Semaphore(0)))
        await asyncio.wait({late}, timeout=0.1)
        late.cancel()
        with suppress(asyncio.CancelledError):
            await late
        for stream in streams:
            await stream.aclose()
        await self._expect_free(engine, freed, "one reader had left while it waited")

    async def test_an_unread_stream_takes_no_place(self, engine: Engine) -> None:
        """Kills: work that begins before the first event is asked for."""
        freed = await self._freed_within(engine)
        for _ in range(self.card(engine).places):
            await self.stream(engine, self.slow_request(engine)).aclose()
        await self._expect_free(engine, freed, "no generator was ever read")

    async def test_a_refused_request_takes_no_place(self, engine: Engine) -> None:
        """Kills: a place that is taken before the request is read."""
        freed = await self._freed_within(engine)
        most = self.card(engine).context_window
        for _ in range(self.card(engine).places):
            asked = self.answer(engine, max_tokens=most + 1)
            sentence = f"An answer of {most + 1} tokens does not fit a context of {most}."
            await expect_refusal(asked, ContextTooLong, sentence)
        await self._expect_free(engine, freed, "their requests were refused")

    async def test_a_too_long_prompt_is_refused_before_started(self, engine: Engine) -> None:
        """Kills: `Started` for a prompt that cannot be answered."""
        long = self.text * (self.card(engine).context_window + 1)
        async with aclosing(self.stream(engine, self.request(engine, long, max_tokens=None))) as stream:
            await expect_refusal(anext(stream), ContextTooLong, "A prompt longer than the context cannot be answered.")

    async def test_eight_answers_side_by_side_keep_apart(self, engine: Engine) -> None:
        """Kills: a stream that reads its neighbour's text."""
        self.require_repeatable()
        prompts = [f"{number}{number} {self.text}" for number in range(8)]
        alone = [(await self.answer(engine, prompt)).text for prompt in prompts]
        together = await asyncio.gather(*(self.answer(engine, prompt) for prompt in prompts))
        for one, answer in zip(alone, together, strict=True):
            expect(
                answer.text == one,
                f"Beside seven others the answer is {answer.text!r:.60}, alone it was {one!r:.60}: keep no state of "
                "an answer on the engine.",
            )
        expect(
            self.constant or len(set(alone)) > 1,
            "Eight prompts got one answer: the engine does not read them. Where that is right, set `constant = True`.",
            Subject,
        )

    async def _freed_within(self, engine: Engine) -> float:
        """Find the seconds within which a place must be free, by the time of short answers in all of them."""
        began = time.monotonic()
        await asyncio.gather(*(self.answer(engine) for _ in range(self.card(engine).places)))
        return max(_FREED_WITHIN, _SLOWER * (time.monotonic() - began))

    async def _fill(self, engine: Engine) -> list[AsyncGenerator[GenerateEvent, None]]:
        """Start a slow answer in every place."""
        places = self.card(engine).places
        streams = [self.stream(engine, self.slow_request(engine)) for _ in range(places)]
        async with Within(self.patience, f"As many answers start side by side as the card has places ({places})."):
            firsts = await asyncio.gather(*map(anext, streams))
        for first in firsts:
            expect(isinstance(first, Started), f"A stream begins with `Started`; this one with {first!r:.60}.")
        return streams

    async def _expect_free(self, engine: Engine, freed: float, after: str) -> None:
        """Wait for every place to be free: the engine says so, and as many answers start at once."""
        async with Within(freed, f"`status` counts nothing that runs or waits once {after}.", Status):
            while (status := await engine.status()).running or status.waiting:  # noqa: ASYNC110 - a status tells nobody
                await asyncio.sleep(0.01)
        streams = [self.stream(engine, self.request(engine)) for _ in range(self.card(engine).places)]
        async with Within(freed, f"All places are free again once {after}: use `finally` or `async with`."):
            await asyncio.gather(*map(anext, streams))
        for stream in streams:
            await stream.aclose()


async def _read(stream: AsyncGenerator[GenerateEvent, None], started: asyncio.Semaphore) -> None:
    async with aclosing(stream):
        async for _ in stream:
            started.release()
