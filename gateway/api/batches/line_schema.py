"""The lines of a batch's files, in OpenAI's shapes."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct


class AskedLine(Struct, frozen=True, kw_only=True):
    """A line of a batch's file."""

    custom_id: Annotated[str, Meta(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str
    body: Raw


class LineAnswer(Struct, frozen=True):
    """What a route answered."""

    status_code: int
    request_id: str
    body: Raw


class LineFailure(Struct, frozen=True):
    """Why a line was not asked at all."""

    code: str
    message: str


class AnsweredLine(Struct, frozen=True):
    """A line of the files that a batch writes."""

    id: str
    custom_id: str
    response: LineAnswer | None
    error: LineFailure | None = None


line_decoder = msgspec.json.Decoder(AskedLine)
