"""The store of responses: each with its input, and the conversation that one goes on from."""

from collections.abc import Iterable, Sequence

import msgspec
from loguru import logger
from msgspec import Raw, Struct, structs

from gateway.api.exchange.detached import BackgroundKeeper
from gateway.api.http.problems import Problem
from gateway.api.responses.begin import RESPONSE, conversation_id, to_id
from gateway.api.responses.conversation import to_messages
from gateway.api.responses.conversations import Conversations
from gateway.api.responses.items import InputItem
from gateway.api.responses.parameters import SEALED
from gateway.api.responses.references import has_references, resolve
from gateway.api.responses.reply import ResponseStatus
from gateway.api.responses.schema import PromptBody, ResponsesBody
from gateway.api.responses.translate import check_origin, to_items
from gateway.engine import GenerateEvent, InvalidRequest, Message
from gateway.store import Entry, Shelf, StoreUnavailable

# Labels of a stored response: the one that it goes on from, whether its events are stored, and its thoughts sealed.
PREVIOUS = "previous"
STREAMED = "streamed"
SEALED_THOUGHTS = "sealed"
_GOES_ON = frozenset({"completed", "incomplete"})

_encode = msgspec.json.Encoder().encode
_events = msgspec.msgpack.Encoder().encode
_raws = msgspec.json.Decoder(list[Raw])
_items = msgspec.json.Decoder(list[InputItem])


class _Stored(Struct):
    """The part of a stored response that others go on from."""

    created_at: int
    status: ResponseStatus
    output: list[Raw]


_stored = msgspec.json.Decoder(_Stored)
stored_events = msgspec.msgpack.Decoder(list[GenerateEvent])


class ResponseKeeper(BackgroundKeeper[ResponsesBody]):
    """Stores one response of a caller, and finds what it goes on from."""

    def __init__(self, body: ResponsesBody, request_id: str, shelf: Shelf) -> None:
        self.id = to_id(request_id)
        self.is_background = bool(body.background)
        self._body = body
        self._request_id = request_id
        self._shelf = shelf
        self._most_bytes = 0
        self._is_begun = False

    async def recall(self, most_bytes: int) -> tuple[Message, ...]:
        """Return the conversation up to now; raise `Problem` where it is not there, `InvalidRequest` if too long."""
        self._most_bytes = most_bytes
        self._body = await resolve(self._body, self._shelf, most_bytes)
        return await recall(self._body, self._shelf, most_bytes)

    @property
    def body(self) -> ResponsesBody:
        """The body with what was recalled in the place of references to it."""
        return self._body

    async def keep(self, reply: bytes) -> bool:
        """Store a whole response, unless the body says not to; one that was deleted meanwhile stays away."""
        if self._body.store is False:
            is_stored = True
        elif self._is_begun:
            is_stored = await self._change(reply)
        else:
            is_stored = await self._shelf.put(self._entry(reply))
        return await self._add(reply) and is_stored

    async def begin(self, state: bytes) -> bool:
        """Store a response that waits or is being made, unless the body says not to."""
        self._is_begun = self._body.store is not False and await self._shelf.put(self._entry(state))
        return self._is_begun

    async def finish(self, reply: bytes, events: Sequence[GenerateEvent]) -> None:
        """Store a response in its place; one that was deleted meanwhile stays away."""
        if await self._change(reply, _events(list(events)) if self._body.stream else b""):
            await self._add(reply)

    async def _change(self, reply: bytes, events: bytes = b"") -> bool:
        try:
            await self._shelf.change(RESPONSE, self.id, lambda entry: structs.replace(entry, body=reply, events=events))
        except StoreUnavailable:
            return False  # the log has it
        return True

    async def _add(self, reply: bytes) -> bool:
        """Add the input and the answer to the conversation, where there is one; return whether that was done."""
        conversation = conversation_id(self._body)
        stored = _stored.decode(reply)
        if conversation is None or stored.status not in _GOES_ON:
            return True
        items = [*self._input(), *stored.output]
        try:
            await Conversations(self._shelf, self._most_bytes).add(conversation, items)
        except (Problem, InvalidRequest, StoreUnavailable) as error:
            # It was deleted meanwhile, or has no room: the answer is given all the same.
            logger.bind(event="conversation_full").warning("a response was not added to its conversation: {}", error)
            return False
        return True

    def _input(self) -> list[Raw]:
        return [Raw(_encode(item)) for item in to_stored(to_items(self._body.input), self._request_id)]

    def _entry(self, reply: bytes) -> Entry:
        labels = {
            PREVIOUS: self._body.previous_response_id,
            STREAMED: "" if self._body.stream else None,
            SEALED_THOUGHTS: "" if SEALED in (self._body.include or ()) else None,
        }
        return Entry(
            kind=RESPONSE,
            id=self.id,
            created=_stored.decode(reply).created_at,
            body=reply,
            input=_encode(self._input()),
            labels={name: value for name, value in labels.items() if value is not None},
        )


def to_keeper(body: ResponsesBody, request_id: str, shelf: Shelf) -> ResponseKeeper | None:
    """Make the keeper of a body; `None` where nothing is stored or looked up."""
    goes_on = body.previous_response_id is not None or conversation_id(body) is not None
    needs_none = body.store is False and not goes_on and not has_references(body)
    return None if needs_none else ResponseKeeper(body, request_id, shelf)


async def recall(body: PromptBody, shelf: Shelf, most_bytes: int) -> tuple[Message, ...]:
    """Return the conversation that a body goes on from; raise `Problem` or `InvalidRequest`."""
    check_origin(body)
    conversation = conversation_id(body)
    if conversation is not None:
        items = await Conversations(shelf, most_bytes, "conversation").items(conversation)
        return to_messages(_items.decode(_encode(items)))
    if body.previous_response_id is None:
        return ()
    items = await past_items(shelf, body.previous_response_id, most_bytes)
    return to_messages(_items.decode(_encode(items)))


async def past_items(shelf: Shelf, response_id: str, most_bytes: int) -> list[Raw]:
    """Return the items of a stored response and of all before it, the first one first, answers included."""
    found = await shelf.chain(RESPONSE, response_id, PREVIOUS, most_bytes)
    if found is None:
        what = f"the conversation before this has more than {most_bytes} bytes (server.max_body_bytes)"
        raise InvalidRequest(what, param="previous_response_id")
    if isinstance(found, str):
        raise Problem("not_found", f"there is no stored response {found!r} of yours", param="previous_response_id")
    items: list[Raw] = []
    for entry in found:
        stored = _stored.decode(entry.body)
        if stored.status not in _GOES_ON:
            how = stored.status if stored.status in ("failed", "cancelled") else "not finished"
            what = f"the response {entry.id!r} is {how}: nothing can go on from it"
            raise InvalidRequest(what, param="previous_response_id")
        items += [*_raws.decode(entry.input), *stored.output]
    return items


def to_stored(items: Iterable[InputItem], request_id: str) -> Iterable[dict[str, object]]:
    """Write the items of an input as they are listed: each with an id and its type, texts as parts."""
    for number, item in enumerate(items):
        fields = {name: value for name, value in msgspec.to_builtins(item).items() if value is not None}
        if isinstance(item.content, str):
            kind = "output_text" if item.role == "assistant" else "input_text"
            fields["content"] = [{"type": kind, "text": item.content}]
        if isinstance(item.content, tuple):
            fields["content"] = [_compact(part) for part in item.content]
        if isinstance(item.output, tuple):
            fields["output"] = [_compact(part) for part in item.output]
        yield {"id": f"item_{request_id}_{number}", "status": "completed", **fields}


def _compact(part: object) -> dict[str, object]:
    return {name: value for name, value in msgspec.to_builtins(part).items() if value is not None}
