"""Report a broken rule in a sentence, with a pointer to its documentation."""

import asyncio
import inspect
from collections.abc import Awaitable
from contextlib import suppress
from types import TracebackType
from typing import NoReturn

import pytest

from gateway.engine import Engine, EngineError

_PAGE = "plugins/README.md, 'Writing an engine'"


def expect(kept: object, sentence: str, where: object = Engine.generate) -> None:
    """Fail the test with `sentence` unless the rule is kept; `where` is the object that documents it."""
    if not kept:
        broken(sentence, where)


def broken(sentence: str, where: object = Engine.generate) -> NoReturn:
    """Fail the test with `sentence` and a pointer to `where`."""
    name = f"{getattr(where, '__module__', '')}.{getattr(where, '__qualname__', where)}"
    pytest.fail(f"{sentence}\nRead on: help({name}), and {_PAGE}.", pytrace=False)


async def expect_refusal(asked: Awaitable[object], kind: type[EngineError], sentence: str) -> None:
    """Fail the test with `sentence` unless awaiting `asked` raises `kind`."""
    with suppress(kind):
        said = await asked
        broken(f"{sentence} It answered {said!r:.80} in place of raising {kind.__name__}.", kind)


class Within:
    """A time limit: fails the test with `sentence` where the block takes more than so many seconds."""

    def __init__(self, seconds: float, sentence: str, where: object = Engine.generate) -> None:
        self._limit = asyncio.timeout(seconds)
        self._said = f"{sentence} It did not within {seconds:g} s."
        self._where = where

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError:
            broken(self._said, self._where)


def check_stream(stream: object) -> None:
    """Fail the test if `generate` returned anything but an asynchronous generator."""
    if inspect.iscoroutine(stream):
        stream.close()
        broken(
            "`generate` returns a coroutine: an `async def` without a `yield` in its own body is no asynchronous "
            "generator. Yield the events in `generate` itself, or make it a plain `def` that returns the generator."
        )
    if not inspect.isasyncgen(stream) and not hasattr(stream, "aclose"):
        broken(
            f"`generate` returns a {type(stream).__name__}, no asynchronous generator: write `async def` and `yield`."
        )
