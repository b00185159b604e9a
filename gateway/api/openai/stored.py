"""Chat completions that are stored: found, listed, described, deleted, and what they answer."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct, structs

from gateway.api.exchange.keeper import AnswerKeeper
from gateway.api.exchange.paging import StoredList, to_list, unknown_after
from gateway.api.http.problems import Problem
from gateway.api.openai.messages import InputMessage
from gateway.api.openai.schema import ChatCompletionBody
from gateway.api.reference.examples import REQUEST_ID
from gateway.store import Entry, Shelf

_COMPLETION = "chat.completion"
_MODEL, _METADATA = "model", "metadata."
_BY_METADATA = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, Any])
_raws = msgspec.json.Decoder(list[Raw])


class DeletedCompletion(Struct, frozen=True):
    """A chat completion that is no longer stored."""

    id: Annotated[str, Meta(description="Its id.", examples=[f"chatcmpl-{REQUEST_ID}"])]
    object: Annotated[Literal["chat.completion.deleted"], Meta(description="Always `chat.completion.deleted`.")] = (
        "chat.completion.deleted"
    )
    deleted: Annotated[bool, Meta(description="Always true.")] = True


class _Reply(Struct):
    """The part of a chat completion that it is found by."""

    created: int
    model: str


_reply = msgspec.json.Decoder(_Reply)


class CompletionKeeper(AnswerKeeper[ChatCompletionBody]):
    """Stores one chat completion of a caller with the messages that it answers."""

    def __init__(self, body: ChatCompletionBody, request_id: str, shelf: Shelf) -> None:
        self._body = body
        self._id = f"chatcmpl-{request_id}"
        self._shelf = shelf

    @property
    def body(self) -> ChatCompletionBody:
        """The body as it was sent."""
        return self._body

    async def keep(self, reply: bytes) -> bool:
        """Store the completion."""
        found = _reply.decode(reply)
        messages = [_to_listed(message, f"{self._id}-{number}") for number, message in enumerate(self._body.messages)]
        entry = Entry(
            kind=_COMPLETION,
            id=self._id,
            created=found.created,
            body=reply,
            input=_encode(messages),
            labels={_MODEL: found.model} | _to_labels(self._body.metadata or {}),
        )
        return await self._shelf.put(entry)


def to_keeper(body: ChatCompletionBody, request_id: str, shelf: Shelf) -> CompletionKeeper | None:
    """Make the keeper of a body that asks to be stored."""
    return CompletionKeeper(body, request_id, shelf) if body.store else None


class StoredCompletions:
    """The chat completions of one caller. Methods raise `Problem` for one that is not there, and `StoreUnavailable`."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def read(self, identity: str) -> bytes:
        """Return a completion as it was answered, as JSON."""
        return (await self._find(identity)).body

    async def messages(self, identity: str) -> list[Raw]:
        """Return the messages that a completion answers, the first one first."""
        return _raws.decode((await self._find(identity)).input)

    async def page(self, labels: Mapping[str, str], after: str | None, limit: int, order: str) -> StoredList:
        """List the completions that have all labels."""
        page = await self._shelf.page(
            _COMPLETION, labels=labels, after=after, limit=limit, is_descending=order == "desc"
        )
        if page is None:
            raise unknown_after(after or "")
        return to_list([Raw(entry.body) for entry in page.entries], has_more=page.has_more)

    async def describe(self, identity: str, metadata: dict[str, str]) -> bytes:
        """Put other metadata in the place of those that a completion has; return it as JSON."""

        def change(entry: Entry) -> Entry:
            labels = {name: value for name, value in entry.labels.items() if not name.startswith(_METADATA)}
            body = _encode(_fields.decode(entry.body) | {"metadata": metadata})
            return structs.replace(entry, body=body, labels=labels | _to_labels(metadata))

        entry = await self._shelf.change(_COMPLETION, identity, change)
        if entry is None:
            raise _missing(identity)
        return entry.body

    async def delete(self, identity: str) -> None:
        """Remove a completion."""
        if not await self._shelf.delete(_COMPLETION, identity):
            raise _missing(identity)

    async def _find(self, identity: str) -> Entry:
        entry = await self._shelf.get(_COMPLETION, identity)
        if entry is None:
            raise _missing(identity)
        return entry


def labels_of(model: str | None, names: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the labels that the parameters of a URL ask for: a model's own name, and `metadata[NAME]`."""
    labels = {} if model is None else {_MODEL: model}
    found = ((_BY_METADATA.fullmatch(name), value) for name, value in names)
    return labels | {_METADATA + match[1]: value for match, value in found if match is not None}


def is_metadata(name: str) -> bool:
    """Tell whether a parameter of a URL asks for metadata."""
    return _BY_METADATA.fullmatch(name) is not None


def _to_labels(metadata: Mapping[str, str]) -> dict[str, str]:
    return {f"{_METADATA}{name}": value for name, value in metadata.items()}


def _to_listed(message: InputMessage, identity: str) -> dict[str, object]:
    """Write a message as it is listed: a text or its parts, and no field that was left out."""
    fields = {name: value for name, value in msgspec.to_builtins(message).items() if value is not None}
    parts = fields.get("content")
    if not isinstance(parts, str) and parts is not None:
        shown = [{name: value for name, value in part.items() if value is not None} for part in parts]
        fields |= {"content": None, "content_parts": shown}
    return {"id": identity, "content": None, "content_parts": None, "refusal": None} | fields


def _missing(identity: str) -> Problem:
    return Problem("not_found", f"there is no stored chat completion {identity!r:.80} of yours", param="completion_id")
