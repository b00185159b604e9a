"""The form of the dialect's streams: named events with numbers, and nothing behind the last one."""

from typing import Annotated

from msgspec import Meta, Struct

from gateway.api.http.sse import Framing

FRAMING = Framing(done=b"")


class NumberedEvent(Struct, frozen=True, kw_only=True):
    """An event of a stream."""

    sequence_number: Annotated[int, Meta(description="Its number in the stream, from 0 on.", examples=[4])]
