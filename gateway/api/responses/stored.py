"""Responses that are stored, or still being made: read, streamed once more, cancelled, deleted."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import msgspec
from msgspec import UNSET, Raw, structs

from gateway.api.exchange.answer import Told
from gateway.api.http.problems import Problem
from gateway.api.responses.begin import RESPONSE
from gateway.api.responses.keeper import PREVIOUS, SEALED_THOUGHTS, STREAMED, past_items, stored_events
from gateway.api.responses.render import ResponseRendering
from gateway.api.responses.reply import ResponseFailure, ResponseObject
from gateway.auth import Caller
from gateway.background import DETACHED, BackgroundAnswer
from gateway.engine import EngineError
from gateway.service import Inference
from gateway.store import Entry

# An engine that is deaf to its reader holds up the answer to a cancel no longer.
_CANCEL_SECONDS = 5.0
_UNFINISHED = frozenset({"queued", "in_progress"})
_LOST = "the service went down before the answer was finished, or could not store it"

_response = msgspec.json.Decoder(ResponseObject)
_raws = msgspec.json.Decoder(list[Raw])


class StoredResponses:
    """The responses of one caller. Methods raise `Problem` for one that is not there, and `StoreUnavailable`."""

    def __init__(self, inference: Inference, caller: Caller) -> None:
        self._inference = inference
        self._caller = caller
        self._shelf = inference.store.of(caller.id)

    async def read(self, identity: str) -> bytes:
        """Return a response as far as it is, as JSON."""
        entry, response = await self._find(identity)
        made = self._made(identity)
        if response.status not in _UNFINISHED or made is None:
            return entry.body
        rendering = ResponseRendering(response, is_sealed=SEALED_THOUGHTS in entry.labels)
        for event in made.events:
            rendering.note(event)
        return rendering.to_state()

    async def stream(self, identity: str, after: int) -> Told:
        """Return the events of a response that was made in the background as a stream, behind the number `after`."""
        entry, response = await self._find(identity)
        if not response.background or STREAMED not in entry.labels:
            what = "only a response that was asked for with background and stream can be streamed again"
            raise Problem("invalid_value", what, param="stream")
        begun = structs.replace(
            response,
            status="queued",
            output=[],
            usage=None,
            error=None,
            completed_at=None,
            incomplete_details=None,
            x_structured=UNSET,
        )
        made, is_sealed = self._made(identity), SEALED_THOUGHTS in entry.labels
        if response.status in _UNFINISHED and made is not None:
            rendering = ResponseRendering(begun, after=after, is_sealed=is_sealed)
            return Told(made.follow(), rendering.to_frame, rendering)
        # Of one that died with its worker no event is left: its end comes behind those that the reader has.
        first = 0 if entry.events else max(after - 1, 0)
        rendering = ResponseRendering(begun, after=after, ended=response, first=first, is_sealed=is_sealed)
        return Told(_told_again(entry, response), rendering.to_frame, rendering)

    async def cancel(self, identity: str) -> bytes:
        """End a response in the background, and return it; one that has ended stays as it is."""
        _, response = await self._find(identity)
        if not response.background:
            raise Problem("invalid_value", "only a response in the background can be cancelled", param="response_id")
        await self._end(identity)
        return await self.read(identity)

    async def delete(self, identity: str) -> None:
        """Remove a response, and end it where it is still being made."""
        if not await self._shelf.delete(RESPONSE, identity):
            raise _missing(identity)
        await self._end(identity)

    async def items(self, identity: str) -> list[Raw]:
        """Return the items that a response answers: those of the conversation before, and its own input."""
        entry, _ = await self._find(identity)
        previous = entry.labels.get(PREVIOUS)
        most_bytes = self._inference.config.server.max_body_bytes
        before = await past_items(self._shelf, previous, most_bytes) if previous else []
        return [*before, *_raws.decode(entry.input)]

    def _made(self, identity: str) -> BackgroundAnswer | None:
        return self._inference.background.find(self._caller.id, identity)

    async def _find(self, identity: str) -> tuple[Entry, ResponseObject]:
        entry = await self._shelf.get(RESPONSE, identity)
        if entry is None:
            raise _missing(identity)
        response = _response.decode(entry.body)
        if response.status in _UNFINISHED and not self._inference.background.is_made(self._caller.id, identity):
            # It has ended since it was read, or with a worker before this one.
            entry = await self._shelf.change(RESPONSE, identity, _settle)
            if entry is None:
                raise _missing(identity)
            response = _response.decode(entry.body)
        return entry, response

    async def _end(self, identity: str) -> None:
        made = self._made(identity)
        if made is None:
            return
        made.is_unwanted = True  # where it is not in flight yet
        with suppress(TimeoutError, EngineError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                self._inference.in_flight.cancel(made.request_id, self._caller)
                async with aclosing(made.follow()) as events:
                    async for _ in events:
                        pass


def _settle(entry: Entry) -> Entry:
    """Have a response that nothing makes any more say so."""
    response = _response.decode(entry.body)
    if response.status not in _UNFINISHED:
        return entry
    failed = structs.replace(
        response,
        status="failed",
        error=ResponseFailure("server_error", _LOST),
        output=[
            item if item.status == "completed" else structs.replace(item, status="incomplete")
            for item in response.output
        ],
    )
    return structs.replace(entry, body=msgspec.json.encode(failed))


async def _told_again(entry: Entry, response: ResponseObject) -> AsyncGenerator[object, None]:
    yield DETACHED
    for event in stored_events.decode(entry.events) if entry.events else ():
        yield event
    if response.status in ("failed", "cancelled"):
        raise EngineError(response.error.message if response.error else "the response was cancelled")


def _missing(identity: str) -> Problem:
    return Problem("not_found", f"there is no stored response {identity!r:.80} of yours", param="response_id")
