"""References to items of stored responses, which stand in an input for the items themselves."""

from typing import TypeVar

import msgspec
from msgspec import Raw, Struct, structs

from gateway.api.exchange.paging import id_of
from gateway.api.http.problems import Problem
from gateway.api.responses.begin import RESPONSE, to_id
from gateway.api.responses.items import InputItem
from gateway.api.responses.schema import PromptBody
from gateway.engine import InvalidRequest
from gateway.store import Shelf

AnyPrompt = TypeVar("AnyPrompt", bound=PromptBody)

REFERENCE = "item_reference"

_item = msgspec.json.Decoder(InputItem)
_raws = msgspec.json.Decoder(list[Raw])


class _Answered(Struct):
    """The part of a stored response that references lead to."""

    output: list[Raw]


_answered = msgspec.json.Decoder(_Answered)


def has_references(body: PromptBody) -> bool:
    """Tell whether an input has references."""
    return isinstance(body.input, tuple) and any(item.type == REFERENCE for item in body.input)


async def resolve(body: AnyPrompt, shelf: Shelf, most_bytes: int) -> AnyPrompt:
    """Put the items in the places of their references, from responses of `most_bytes` together at most.

    Raises `Problem` for an item that is not there, `InvalidRequest` for too many.
    """
    if not has_references(body) or not isinstance(body.input, tuple):
        return body
    left = most_bytes
    known: dict[str, dict[str, Raw]] = {}
    items: list[InputItem] = []
    for number, item in enumerate(body.input):
        if item.type != REFERENCE:
            items.append(item)
            continue
        request_id = (item.id or "").partition("_")[2].partition("_")[0]
        if request_id not in known:
            known[request_id], size = await _find(shelf, request_id)
            left -= size
        found = known[request_id].get(item.id or "")
        if found is None:
            raise Problem("not_found", f"there is no stored item {item.id!r} of yours", param=f"input[{number}].id")
        if left < 0:
            what = f"the responses that are referred to have more than {most_bytes} bytes (server.max_body_bytes)"
            raise InvalidRequest(what, param=f"input[{number}]")
        items.append(_item.decode(found))
    return structs.replace(body, input=tuple(items))


async def _find(shelf: Shelf, request_id: str) -> tuple[dict[str, Raw], int]:
    """Return the items of a stored response by their ids, and its size in bytes; an item's id holds the request's."""
    entry = await shelf.get(RESPONSE, to_id(request_id))
    if entry is None:
        return {}, 0
    items = [*_raws.decode(entry.input), *_answered.decode(entry.body).output]
    return {id_of(item): item for item in items}, entry.size
