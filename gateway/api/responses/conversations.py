"""Stored conversations: a list of items that responses go on with and add to."""

import time
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Raw, structs

from gateway.api.exchange.paging import id_of
from gateway.api.http.problems import Problem
from gateway.api.responses.conversation import to_messages
from gateway.api.responses.items import InputItem
from gateway.api.responses.reply import StoredConversation
from gateway.engine import InvalidRequest
from gateway.store import Entry, Shelf, StoreUnavailable

CONVERSATION = "conversation"

_encode = msgspec.json.Encoder().encode
_raws = msgspec.json.Decoder(list[Raw])
_conversation = msgspec.json.Decoder(StoredConversation)


class Conversations:
    """The conversations of one caller, each of `most_bytes` at most.

    Methods raise `Problem` for one that is not there, named by `param`, and `StoreUnavailable`.
    """

    def __init__(self, shelf: Shelf, most_bytes: int, param: str = "conversation_id") -> None:
        self._shelf = shelf
        self._most_bytes = most_bytes
        self._param = param

    async def create(self, identity: str, items: Sequence[Raw], metadata: dict[str, str]) -> StoredConversation:
        """Make a conversation of checked items."""
        made = StoredConversation(id=identity, created_at=int(time.time()), metadata=metadata)
        entry = Entry(
            kind=CONVERSATION, id=identity, created=made.created_at, body=_encode(made), input=_encode(list(items))
        )
        if not await self._shelf.put(entry):
            raise StoreUnavailable("the conversation cannot be stored at the moment; try again")
        return made

    async def read(self, identity: str) -> StoredConversation:
        """Find a conversation."""
        return _conversation.decode((await self._find(identity)).body)

    async def items(self, identity: str) -> list[Raw]:
        """Return the items of a conversation, the first one first."""
        return _raws.decode((await self._find(identity)).input)

    async def item(self, identity: str, item_id: str) -> Raw:
        """Find an item of a conversation."""
        found = next((item for item in await self.items(identity) if id_of(item) == item_id), None)
        if found is None:
            raise Problem("not_found", f"there is no item {item_id!r} in this conversation", param="item_id")
        return found

    async def describe(self, identity: str, metadata: dict[str, str]) -> StoredConversation:
        """Put other metadata in the place of those that a conversation has."""

        def change(entry: Entry) -> Entry:
            return structs.replace(
                entry, body=_encode(structs.replace(_conversation.decode(entry.body), metadata=metadata))
            )

        return _conversation.decode((await self._change(identity, change)).body)

    async def add(self, identity: str, items: Sequence[Raw]) -> None:
        """Put checked items at the end; raise `InvalidRequest` where the conversation would become too long."""
        await self._change(identity, lambda entry: self._with(entry, items))

    async def remove(self, identity: str, item_id: str) -> StoredConversation:
        """Take an item out."""
        await self.item(identity, item_id)

        def change(entry: Entry) -> Entry:
            left = [item for item in _raws.decode(entry.input) if id_of(item) != item_id]
            return structs.replace(entry, input=_encode(left))

        return _conversation.decode((await self._change(identity, change)).body)

    async def delete(self, identity: str) -> None:
        """Remove a conversation; the responses in it stay."""
        if not await self._shelf.delete(CONVERSATION, identity):
            raise self._missing(identity)

    def _with(self, entry: Entry, items: Sequence[Raw]) -> Entry:
        longer = _encode([*_raws.decode(entry.input), *items])
        if len(longer) > self._most_bytes:
            what = f"the conversation would have {len(longer)} bytes; {self._most_bytes} are the most"
            raise InvalidRequest(f"{what} (server.max_body_bytes)", param="items")
        return structs.replace(entry, input=longer)

    async def _find(self, identity: str) -> Entry:
        entry = await self._shelf.get(CONVERSATION, identity)
        if entry is None:
            raise self._missing(identity)
        return entry

    async def _change(self, identity: str, change: Callable[[Entry], Entry]) -> Entry:
        entry = await self._shelf.change(CONVERSATION, identity, change)
        if entry is None:
            raise self._missing(identity)
        return entry

    def _missing(self, identity: str) -> Problem:
        return Problem("not_found", f"there is no stored conversation {identity!r:.80} of yours", param=self._param)


def check_items(items: Sequence[InputItem]) -> None:
    """Raise `InvalidRequest` for an item that no model could be told of."""
    to_messages(items, "items")
