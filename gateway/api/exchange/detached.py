"""Answers that are made in the background, and stored at their end, whatever becomes of the client."""

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from loguru import logger

from gateway.api.exchange.dialect import Rendering
from gateway.api.exchange.keeper import AnswerKeeper, B
from gateway.api.exchange.run import Run
from gateway.api.http.sse import CUT_OFF
from gateway.auth import Caller
from gateway.background import BackgroundAnswer
from gateway.engine import Draining, EngineError, Finished, GenerateEvent
from gateway.inflight import Cancelled
from gateway.service import Inference
from gateway.store import StoreUnavailable
from gateway.telemetry import current_record, open_record, request_id

_DOWN = "the service went down before the answer was finished"
_UNSTORED = "an answer in the background has to be stored, and cannot be at the moment; try again"


class ResumableRendering(Rendering):
    """Renders an answer that may be looked at before it is finished."""

    @abstractmethod
    def to_state(self) -> bytes:
        """Encode the answer as far as its events were noted."""

    @abstractmethod
    def to_broken(self, error: EngineError) -> bytes:
        """Encode what there is of an answer that an error ended."""


class BackgroundKeeper(AnswerKeeper[B]):
    """Stores an answer twice: when it is asked for, and when it has ended."""

    id: str

    @abstractmethod
    async def begin(self, state: bytes) -> bool:
        """Store an answer that is about to be made, or under way; return whether it was stored."""

    @abstractmethod
    async def finish(self, reply: bytes, events: Sequence[GenerateEvent]) -> None:
        """Store the answer in its place, and how it came; it is whole where the last event is `Finished`."""


async def detach(
    inference: Inference, caller: Caller, run: Run, rendering: ResumableRendering, keeper: BackgroundKeeper[Any]
) -> tuple[bytes, BackgroundAnswer]:
    """Have an answer made in the background, and return how it stands.

    Raises `Overloaded`, or `StoreUnavailable` where it cannot be stored.
    """
    background, state = inference.background, rendering.to_state()
    made = background.reserve(caller.id, keeper.id, request_id.get())
    try:
        await _store(keeper, state)
        background.start(caller.id, keeper.id, _make(caller, made, run, rendering, keeper))
    except BaseException:
        background.release(caller.id, keeper.id)
        raise
    return state, made


async def _store(keeper: BackgroundKeeper[Any], state: bytes) -> None:
    if not await keeper.begin(state):
        raise StoreUnavailable(_UNSTORED)


async def _make(
    caller: Caller, made: BackgroundAnswer, run: Run, rendering: ResumableRendering, keeper: BackgroundKeeper[Any]
) -> None:
    # The request's own record is closed when its answer is sent, which is long before this one is made.
    record = open_record(current_record().span)
    record.key = caller.id
    error: EngineError | None = None
    try:
        await _generate(made, run, rendering, keeper)
    except EngineError as raised:
        error = raised.with_traceback(None)
    except asyncio.CancelledError:
        error = Draining(_DOWN)
    except Exception as raised:  # noqa: BLE001 - no client waits for it: it is told by the stored answer
        logger.opt(exception=raised).error("an answer in the background failed in a way that nothing foresaw")
        error = EngineError("something went wrong here; the log says what")
    try:
        if error is not None:
            await keeper.finish(rendering.to_broken(error), made.events)
    finally:
        made.end(error)
        record.close()


async def _generate(
    made: BackgroundAnswer, run: Run, rendering: ResumableRendering, keeper: BackgroundKeeper[Any]
) -> None:
    if made.is_unwanted:
        raise Cancelled("the request was cancelled")
    event: object = None
    stream, _ = run.stream(rendering)
    async with aclosing(stream) as events:
        async for event in events:
            if isinstance(event, GenerateEvent):
                rendering.note(event)
                if isinstance(event, Finished):
                    await keeper.finish(rendering.to_reply({}, event.usage), [*made.events, event])
                made.add(event)
    if not isinstance(event, Finished):
        raise EngineError(CUT_OFF)
