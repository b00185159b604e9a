"""The protocol between two processes: length-prefixed MessagePack of the structs of `gateway.engine`.

    a frame is   [0, 4) length of the rest, big-endian   [4, 4 + length) one `Call` or one `ServerMessage`

The client numbers its calls, and a reply carries the number of its call. The replies of one turn of the event loop, to
whatever calls, travel in one frame.
"""

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from gateway.engine import (
    Ended,
    Failure,
    GenerateEvent,
    GenerateRequest,
    MalformedFrame,
    ModelCard,
    Result,
    Status,
    TokenLogprob,
    Unsendable,
    decode,
    encode,
)

MOST_BYTES = 64 * 2**20
_PREFIX = 4


class Generate(Struct, frozen=True, array_like=True, tag="generate", forbid_unknown_fields=True):
    """Begin an answer."""

    number: int
    request: GenerateRequest


class Question(Struct, frozen=True, array_like=True, tag="question", forbid_unknown_fields=True):
    """Ask a question of the `Engine` interface: the method of this name, with its arguments in their places."""

    number: int
    method: str
    arguments: msgspec.Raw


class Cancel(Struct, frozen=True, array_like=True, tag="cancel", forbid_unknown_fields=True):
    """End a call; one that has ended already is no error."""

    number: int


class Scores(Struct, frozen=True, array_like=True, gc=False, tag="scores", forbid_unknown_fields=True):
    """Some of a prompt's scores, in order, before the `Started` that then has none itself."""

    logprobs: tuple[TokenLogprob, ...]


Reply = GenerateEvent | Scores | Ended | Failure | Result


class ReplyBatch(Struct, frozen=True, array_like=True, tag="batch", forbid_unknown_fields=True):
    """The replies of one turn of the event loop, each with the number of its call."""

    replies: list[tuple[int, Reply]]


class Arrived(Struct, frozen=True, array_like=True, gc=False, tag="arrived", forbid_unknown_fields=True):
    """These calls were read by the process, and begin now."""

    numbers: tuple[int, ...]


class EngineLoaded(Struct, frozen=True, array_like=True, tag="loaded", forbid_unknown_fields=True):
    """The engine is entered and serves these models."""

    cards: tuple[ModelCard, ...]


class LoadError(Struct, frozen=True, array_like=True, tag="broken", forbid_unknown_fields=True):
    """The engine can never be entered as it is configured."""

    failure: Failure


class LoadStep(Struct, frozen=True, array_like=True, tag="step", forbid_unknown_fields=True):
    """The engine is being entered: what it is at, and the share of that which is done, from 0 to 1."""

    step: str
    share: float


class Heartbeat(Struct, frozen=True, array_like=True, tag="beat", forbid_unknown_fields=True):
    """The process lives; it hangs where there are calls, and neither the replies so far nor cache or steps move.

    `computed` are the numbers of the calls that are computed at the moment; `None` of an engine that does not say.
    """

    calls: int
    replies: int
    status: Status
    computed: tuple[int, ...] | None = None


Call = Generate | Question | Cancel
ServerMessage = ReplyBatch | Arrived | EngineLoaded | LoadError | LoadStep | Heartbeat

_CALLS: msgspec.msgpack.Decoder[Call] = msgspec.msgpack.Decoder(Call)
_MESSAGES: msgspec.msgpack.Decoder[ServerMessage] = msgspec.msgpack.Decoder(ServerMessage)


def pack(frame: Struct, most: int = MOST_BYTES) -> bytes:
    """Make a frame; raise `Unsendable` if MessagePack cannot encode it, or if it is longer than `most` bytes."""
    body = encode(frame)
    if len(body) > most:
        raise Unsendable(f"it takes {len(body)} bytes; {most} are the most")
    return len(body).to_bytes(_PREFIX, "big") + body


def read_call(body: bytes) -> Call:
    """Read what a client sent; raise `MalformedFrame`."""
    return decode(body, _CALLS)


def read_message(body: bytes) -> ServerMessage:
    """Read what a server sent; raise `MalformedFrame`."""
    return decode(body, _MESSAGES)


class Frames:
    """Cuts a stream of bytes, in whatever pieces it comes, into the bodies of its frames."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._rest = bytearray()

    def feed(self, piece: bytes | memoryview) -> Iterator[bytes]:
        """Take the next piece, yield the bodies that are complete; raise `MalformedFrame` for one that is too long."""
        rest = self._rest
        rest += piece
        at = 0
        try:
            while len(rest) - at >= _PREFIX:
                end = at + _PREFIX + int.from_bytes(rest[at : at + _PREFIX], "big")
                if end - at - _PREFIX > self._most:
                    raise MalformedFrame(f"a frame of {end - at - _PREFIX} bytes; {self._most} are the most")
                if end > len(rest):
                    return
                yield bytes(rest[at + _PREFIX : end])
                at = end
        finally:
            del rest[:at]
