"""A model's name in a path: one part, or the two of a full id."""

from typing import Annotated

from litestar.openapi.spec import Example
from litestar.params import PathParameter

Name = Annotated[
    str,
    PathParameter(
        description="The model's name, the last part of its full id, or its engine's name.",
        examples=[Example(value="smollm2-135m-instruct")],
    ),
]
Owner = Annotated[
    str, PathParameter(description="The first part of the model's full id.", examples=[Example(value="HuggingFaceTB")])
]


def full_name(owner: str, name: str) -> str:
    """Join what a path says of a name."""
    return f"{owner}/{name}" if owner else name
