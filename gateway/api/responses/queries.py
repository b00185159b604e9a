"""The parameters of lists and look-ups, which stand in the URL."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter
from msgspec import Raw, Struct

from gateway.api.http.problems import Problem
from gateway.api.responses.reply import ItemList

ResponsePath = Annotated[
    str,
    PathParameter(description="The response's id.", examples=[Example(value="resp_01KDVXK0M4Q2E6S9ZB3H7TJN5R")]),
]
Limit = Annotated[int, QueryParameter(ge=1, le=100, description="How many there are at most in the answer.")]
After = Annotated[
    str | None, QueryParameter(description="The id of an item: the list goes on behind it. Left out: its beginning.")
]
ListOrder = Annotated[
    Literal["asc", "desc"], QueryParameter(description="Whether the oldest or the newest one comes first.")
]
Resumed = Annotated[bool, QueryParameter(description="Stream the response, again or still.")]
StartingAfter = Annotated[
    int | None,
    QueryParameter(ge=0, description="Stream only the events behind this number. Left out: from the beginning."),
]


class _Named(Struct):
    """An item of a list."""

    id: str


_named = msgspec.json.Decoder(_Named)


def refuse_unknown(request: Request[None, None, State], *known: str) -> None:
    """Raise `Problem` for a parameter in the URL that is none here."""
    for name in request.query_params:
        if name not in known:
            raise Problem("unsupported_parameter", f"{name[:60]!r} is no parameter of this path", param=name[:60])


def to_page(items: Sequence[Raw], after: str | None, limit: int, order: str) -> ItemList:
    """Return the part of a list that was asked for; raise `Problem` where `after` is none of its items."""
    ordered = items if order == "asc" else items[::-1]
    ids = [_named.decode(item).id for item in ordered]
    if after is not None and after not in ids:
        raise Problem("not_found", f"there is no item {after[:60]!r} in this list", param="after")
    start = 0 if after is None else ids.index(after) + 1
    shown = ids[start : start + limit]
    return ItemList(
        data=list(ordered[start : start + limit]),
        first_id=shown[0] if shown else None,
        last_id=shown[-1] if shown else None,
        has_more=len(ids) > start + limit,
    )
