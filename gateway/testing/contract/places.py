"""Rules about places: who leaves gives the place back, and neighbours in the batch do not touch."""
# ruff: noqa: S101 - assert is what a test does

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import pytest

from gateway.engine import ContextTooLong, Engine, GenerateEvent, Started
from gateway.testing.contract.subject import Subject

_FREED_WITHIN = 1.0


class PlaceRules(Subject):
    """Each fills all places with answers that would take ten seconds, and wants one back within one."""

    async def test_closing_the_stream_frees_its_place(self, engine: Engine) -> None:
        """Kills: a place that is given back only when the answer is complete."""
        streams = await self._fill(engine)
        async with asyncio.timeout(_FREED_WITHIN):
            for stream in streams:
                await stream.aclose()
        await self._expect_free(engine)

    async def test_cancelling_the_reader_frees_its_place(self, engine: Engine) -> None:
        """Kills: a cancellation that is swallowed."""
        places = self.card(engine).places
        started = asyncio.Semaphore(0)
        readers = [asyncio.create_task(self._read(engine, started)) for _ in range(places)]
        async with asyncio.timeout(self.patience):
            for _ in range(places):
                await started.acquire()
        for reader in readers:
            reader.cancel()
        async with asyncio.timeout(_FREED_WITHIN):
            await asyncio.gather(*readers, return_exceptions=True)
        await self._expect_free(engine)

    async def test_a_reader_that_leaves_the_line_takes_no_place(self, engine: Engine) -> None:
        """Kills: a line that still counts who has left it."""
        streams = await self._fill(engine)
        late = asyncio.create_task(self._read(engine, asyncio.Semaphore(0)))
        await asyncio.wait({late}, timeout=0.1)
        late.cancel()
        with suppress(asyncio.CancelledError):
            await late
        for stream in streams:
            await stream.aclose()
        await self._expect_free(engine)

    async def test_an_unread_stream_takes_no_place(self, engine: Engine) -> None:
        """Kills: work that begins before the first event is asked for."""
        for _ in range(self.card(engine).places):
            await engine.generate(self.slow_request(engine)).aclose()
        await self._expect_free(engine)

    async def test_a_refused_request_takes_no_place(self, engine: Engine) -> None:
        """Kills: a place that is taken before the request is read."""
        for _ in range(self.card(engine).places):
            with pytest.raises(ContextTooLong):
                await self.answer(engine, max_tokens=self.card(engine).context_window + 1)
        await self._expect_free(engine)

    async def test_a_too_long_prompt_is_refused_before_started(self, engine: Engine) -> None:
        """Kills: `Started` for a prompt that cannot be answered."""
        long = self.text * (self.card(engine).context_window + 1)
        async with aclosing(engine.generate(self.request(engine, long, max_tokens=None))) as stream:
            with pytest.raises(ContextTooLong):
                await anext(stream)

    async def test_eight_answers_side_by_side_keep_apart(self, engine: Engine) -> None:
        """Kills: a stream that reads its neighbour's text."""
        self.require_repeatable()
        prompts = [f"{number}{number} {self.text}" for number in range(8)]
        alone = [(await self.answer(engine, prompt)).text for prompt in prompts]
        together = await asyncio.gather(*(self.answer(engine, prompt) for prompt in prompts))
        assert [answer.text for answer in together] == alone
        assert self.constant or len(set(alone)) > 1, "all prompts got one answer: say `constant` where that is right"

    async def _fill(self, engine: Engine) -> list[AsyncGenerator[GenerateEvent, None]]:
        """Start a slow answer in every place."""
        streams = [engine.generate(self.slow_request(engine)) for _ in range(self.card(engine).places)]
        async with asyncio.timeout(self.patience):
            firsts = await asyncio.gather(*map(anext, streams))
        assert all(isinstance(first, Started) for first in firsts)
        return streams

    async def _read(self, engine: Engine, started: asyncio.Semaphore) -> None:
        async with aclosing(engine.generate(self.slow_request(engine))) as stream:
            async for _ in stream:
                started.release()

    async def _expect_free(self, engine: Engine) -> None:
        """Wait for every place to be free: the engine says so, and as many answers start at once."""
        async with asyncio.timeout(_FREED_WITHIN):
            while (status := await engine.status()).running or status.waiting:  # noqa: ASYNC110 - a status tells nobody
                await asyncio.sleep(0.01)
            streams = [engine.generate(self.request(engine)) for _ in range(self.card(engine).places)]
            await asyncio.gather(*map(anext, streams))
        for stream in streams:
            await stream.aclose()
