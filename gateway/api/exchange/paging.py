"""Lists that are told some entries at a time, and the parameters in the URL that say which."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.params import QueryParameter
from msgspec import Meta, Raw, Struct

from gateway.api.http.problems import Problem

_SHOWN = 60

Limit = Annotated[int, QueryParameter(ge=1, le=100, description="How many there are at most in the answer.")]
After = Annotated[
    str | None, QueryParameter(description="The id of an entry: the list goes on behind it. Left out: its beginning.")
]
ListOrder = Annotated[
    Literal["asc", "desc"], QueryParameter(description="Whether the oldest or the newest one comes first.")
]


class StoredList(Struct, frozen=True):
    """Entries of a list, some at a time."""

    data: Annotated[list[Any], Meta(description="The entries.", examples=[[]])]
    first_id: Annotated[str | None, Meta(description="The id of the first one.", examples=["msg_1"])]
    last_id: Annotated[str | None, Meta(description="The id of the last one, to go on behind.", examples=["msg_2"])]
    has_more: Annotated[bool, Meta(description="Whether there are more behind it.")]
    object: Annotated[Literal["list"], Meta(description="Always `list`.")] = "list"


class _Named(Struct):
    """An entry of a list."""

    id: str


_named = msgspec.json.Decoder(_Named)


def refuse_unknown(request: Request[None, None, State], *known: str) -> None:
    """Raise `Problem` for a parameter in the URL that is none here."""
    for name in request.query_params:
        if name not in known:
            raise Problem("unsupported_parameter", f"{name[:_SHOWN]!r} is no parameter here", param=name[:_SHOWN])


def to_page(items: Sequence[Raw], after: str | None, limit: int, order: str) -> StoredList:
    """Return the part of a list that was asked for; raise `Problem` where `after` is none of its entries."""
    ordered = items if order == "asc" else items[::-1]
    ids = [id_of(item) for item in ordered]
    if after is not None and after not in ids:
        raise unknown_after(after)
    start = 0 if after is None else ids.index(after) + 1
    return to_list(ordered[start : start + limit], has_more=len(ids) > start + limit)


def to_list(shown: Sequence[Raw], *, has_more: bool) -> StoredList:
    """Make a list of the entries that are shown."""
    first, last = (id_of(shown[0]), id_of(shown[-1])) if shown else (None, None)
    return StoredList(list(shown), first, last, has_more)


def id_of(item: Raw) -> str:
    """Return the id of an entry."""
    return _named.decode(item).id


def unknown_after(after: str) -> Problem:
    """Make the error for a list that is to go on behind an entry that it does not have."""
    return Problem("not_found", f"there is no {after[:_SHOWN]!r} in this list", param="after")
