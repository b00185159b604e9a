"""The parameters of look-ups, which stand in the URL."""

from typing import Annotated

from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter

ResponsePath = Annotated[
    str,
    PathParameter(description="The response's id.", examples=[Example(value="resp_01KDVXK0M4Q2E6S9ZB3H7TJN5R")]),
]
ConversationPath = Annotated[
    str,
    PathParameter(description="The conversation's id.", examples=[Example(value="conv_01KDVXK0M4Q2E6S9ZB3H7TJN5R")]),
]
ItemPath = Annotated[
    str, PathParameter(description="The item's id.", examples=[Example(value="item_01KDVXK0M4Q2E6S9ZB3H7TJN5R_0")])
]
Resumed = Annotated[bool, QueryParameter(description="Stream the response, again or still.")]
StartingAfter = Annotated[
    int | None,
    QueryParameter(ge=0, description="Stream only the events behind this number. Left out: from the beginning."),
]
