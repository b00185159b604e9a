"""Answers that are stored: the whole ones as they are sent, of streams what they would have been as a whole.

A stream that fails, or that its client leaves, is stored as far as it came where its answer can tell of that. One that
takes long is stored before its end, too, so that it is known though the service dies.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from typing import Any

from gateway.api.exchange.detached import BackgroundKeeper, ResumableRendering
from gateway.api.exchange.dialect import Rendering
from gateway.api.exchange.keeper import AnswerKeeper
from gateway.api.exchange.run import Run
from gateway.api.http.sse import CUT_OFF
from gateway.engine import EngineError, Finished, Fold, GenerateEvent
from gateway.flow.tasks import Tasks
from gateway.inflight import Cancelled

# A whole answer that was to be stored and was not has this header, and its stream this comment before its end.
NOT_STORED = {"x-stored": "false"}
_COMMENT = b": not stored\n\n"
_LEFT = "the client left before the answer was finished"
# A stream that is over before costs nothing more than its end.
_LONG_SECONDS = 1.0
_UNFORESEEN = "something went wrong here; the log says what"


async def stored_whole(run: Run, rendering: Rendering, keeper: AnswerKeeper[Any]) -> tuple[bytes, dict[str, str]]:
    """Return a whole answer, and the header that says whether it was stored."""
    reply = await run.whole(rendering)
    return reply, {} if await keeper.keep(reply) else NOT_STORED


class StoredStream:
    """A stream that is folded into the whole answer on its way, which is stored before its end is told.

    `attended` is entered while the answer is made.
    """

    def __init__(
        self, run: Run, rendering: Rendering, keeper: AnswerKeeper[Any], attended: AbstractContextManager[None]
    ) -> None:
        rendering.holds_answers = True
        self._events, self._encode = run.stream(rendering)
        self._rendering = rendering
        self._keeper = keeper
        self._attended = attended
        self._tasks = Tasks()
        self._is_single = run.is_single
        self._folds: dict[int, Fold] = {}
        self._is_stored = True
        self._is_over = False

    async def events(self) -> AsyncGenerator[object, None]:
        """Yield the events of the stream; its end, a failure too, waits for the store."""
        async with self._known():
            try:
                async with aclosing(self._events):
                    async for event in self._events:
                        self._fold(event)
                        if type(event) is Finished:
                            self._is_over = True
                            answers = {index: fold.answer() for index, fold in self._folds.items()}
                            self._is_stored = await self._keeper.keep(self._rendering.to_reply(answers, event.usage))
                        yield event
                await self._break_off(EngineError(CUT_OFF))
            except (GeneratorExit, asyncio.CancelledError):
                await self._break_off(Cancelled(_LEFT))
                raise
            except EngineError as error:
                await self._break_off(error)
                raise
            except Exception:
                await self._break_off(EngineError(_UNFORESEEN))
                raise

    @asynccontextmanager
    async def _known(self) -> AsyncGenerator[None, None]:
        """Have the answer known while it is made, and stored as it stands once that takes long."""
        with self._attended:
            self._wait_long()
            try:
                yield
            finally:
                self._timer.cancel()
                await self._tasks.end()

    def _wait_long(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LONG_SECONDS, self._mark)

    def _mark(self) -> None:
        if not self._folds:
            self._wait_long()
        elif isinstance(self._keeper, BackgroundKeeper) and isinstance(self._rendering, ResumableRendering):
            self._tasks.start(self._begin(self._keeper, self._rendering))

    async def _begin(self, keeper: BackgroundKeeper[Any], rendering: ResumableRendering) -> None:
        if not self._is_over:
            await keeper.begin(rendering.to_state())

    async def _break_off(self, error: EngineError) -> None:
        """Store what there is of an answer that has begun, and has no end: the client may know its id."""
        if self._folds and not self._is_over and isinstance(self._rendering, ResumableRendering):
            self._is_over = True
            await self._keeper.keep(self._rendering.to_broken(error))

    def encode(self, event: Any) -> bytes:  # noqa: ANN401 - as `Run.stream` returns it
        """Encode an event."""
        frame = self._encode(event)
        return frame if self._is_stored or type(event) is not Finished else _COMMENT + frame

    def _fold(self, event: object) -> None:
        """Take an event of the only answer, or one of several answers beside its number; not what all of them used."""
        if isinstance(event, tuple):
            index, piece = event
            self._folds.setdefault(index, Fold()).add(piece)
        elif self._is_single and isinstance(event, GenerateEvent):
            self._folds.setdefault(0, Fold()).add(event)
