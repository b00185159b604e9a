"""Paths: a model's name in one part, or the two of a full id; and the operations of a route with several paths."""

from typing import Annotated

from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter
from litestar.types import Method
from litestar.types.internal_types import PathParameterDefinition
from msgspec import Meta

ModelPath = Annotated[
    str,
    PathParameter(
        description="The model's name, the last part of its full id, or its engine's name.",
        examples=[Example(value="smollm2-135m-instruct")],
    ),
]
OwnerPath = Annotated[
    str, PathParameter(description="The first part of the model's full id.", examples=[Example(value="HuggingFaceTB")])
]

AskedName = Annotated[
    Annotated[str, Meta(min_length=1, max_length=512)] | None,
    QueryParameter(
        name="model",
        description="A model's name, its full id or its engine's name; left out: the first engine's model.",
        examples=[Example(value="smollm2-135m-instruct")],
    ),
]


def full_name(owner: str, name: str) -> str:
    """Join what a path says of a name."""
    return f"{owner}/{name}" if owner else name


def name_operation(handler: HTTPRouteHandler, method: Method, path: list[str | PathParameterDefinition]) -> str:
    """Name an operation for its handler, with a mark on the paths that are other names for it."""
    del method
    first, *rest = handler.handler_name.split("_")
    owned = any(isinstance(part, PathParameterDefinition) and part.name == "owner" for part in path)
    marks = ("Owned" if owned else "", "" if path[0] == "v1" else "Unversioned")
    return "".join((first, *(word.title() for word in rest), *marks))
