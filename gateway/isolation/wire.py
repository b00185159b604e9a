"""What two processes say to each other: length-prefixed MessagePack of the structs of `gateway.engine`.

    a frame is   [0, 4) length of the rest, big-endian   [4, 4 + length) one `Call` or one `Message`

A call is a number that the client chose. What an engine says to its calls are letters; the letters of one turn of the
event loop, whosever they are, travel in one frame.
"""

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from gateway.engine import (
    Chat,
    Delta,
    Embeddings,
    EmbedRequest,
    EngineError,
    Finished,
    GenerateRequest,
    ModelCard,
    Overloaded,
    Prompt,
    Started,
    Status,
    ToolDelta,
    Unavailable,
    errors,
)

MOST_BYTES = 64 * 2**20
_PREFIX = 4


class MalformedFrame(Exception):
    """The peer sent what is no frame; there is nothing to do but to hang up."""


class Unsendable(Exception):
    """This cannot be put into a frame; the message says why."""


class Generate(Struct, frozen=True, array_like=True, tag="generate", forbid_unknown_fields=True):
    """Begin an answer."""

    call: int
    request: GenerateRequest


class Embed(Struct, frozen=True, array_like=True, tag="embed", forbid_unknown_fields=True):
    """Turn texts into vectors."""

    call: int
    request: EmbedRequest


class CountTokens(Struct, frozen=True, array_like=True, tag="count", forbid_unknown_fields=True):
    """Count the tokens of a prompt."""

    call: int
    model: str
    prompt: Prompt


class Tokenize(Struct, frozen=True, array_like=True, tag="tokenize", forbid_unknown_fields=True):
    """Tokenize a prompt."""

    call: int
    model: str
    prompt: Prompt


class Detokenize(Struct, frozen=True, array_like=True, tag="detokenize", forbid_unknown_fields=True):
    """Say the text of tokens."""

    call: int
    model: str
    ids: tuple[int, ...]


class Render(Struct, frozen=True, array_like=True, tag="render", forbid_unknown_fields=True):
    """Put a conversation through its template."""

    call: int
    model: str
    chat: Chat


class AskStatus(Struct, frozen=True, array_like=True, tag="ask", forbid_unknown_fields=True):
    """Say how the engine is."""

    call: int


class Cancel(Struct, frozen=True, array_like=True, tag="cancel", forbid_unknown_fields=True):
    """End a call; one that has ended already is no error."""

    call: int


class Ended(Struct, frozen=True, array_like=True, gc=False, tag="ended", forbid_unknown_fields=True):
    """The answer's generator has ended, and with it all that the call held."""


class Failure(Struct, frozen=True, array_like=True, gc=False, tag="failure", forbid_unknown_fields=True):
    """The call failed: an `EngineError` with all its fields."""

    code: str
    message: str
    param: str | None = None
    retry_after: float | None = None


class Embedded(Struct, frozen=True, array_like=True, tag="embedded", forbid_unknown_fields=True):
    """The answer to `Embed`."""

    embeddings: Embeddings


class CountReply(Struct, frozen=True, array_like=True, gc=False, tag="counted", forbid_unknown_fields=True):
    """The answer to `CountTokens`."""

    tokens: int


class Tokenized(Struct, frozen=True, array_like=True, gc=False, tag="tokenized", forbid_unknown_fields=True):
    """The answer to `Tokenize`."""

    ids: tuple[int, ...]


class TextReply(Struct, frozen=True, array_like=True, gc=False, tag="written", forbid_unknown_fields=True):
    """The answer to `Detokenize` and to `Render`, which has one piece."""

    pieces: tuple[str, ...]


class StatusReply(Struct, frozen=True, array_like=True, tag="told", forbid_unknown_fields=True):
    """The answer to `AskStatus`."""

    status: Status


AnyReply = Embedded | CountReply | Tokenized | TextReply | StatusReply
Reply = Started | Delta | ToolDelta | Finished | Ended | Failure | AnyReply


class ReplyBatch(Struct, frozen=True, array_like=True, tag="batch", forbid_unknown_fields=True):
    """The letters of one turn of the event loop, each with its call."""

    letters: list[tuple[int, Reply]]


class EngineLoaded(Struct, frozen=True, array_like=True, tag="loaded", forbid_unknown_fields=True):
    """The engine is entered and serves these models."""

    cards: tuple[ModelCard, ...]


class LoadError(Struct, frozen=True, array_like=True, tag="broken", forbid_unknown_fields=True):
    """The engine can never be entered as it is configured."""

    failure: Failure


class Heartbeat(Struct, frozen=True, array_like=True, tag="beat", forbid_unknown_fields=True):
    """The process lives; it hangs where there are calls, and neither the letters written so far nor the cache move."""

    calls: int
    letters: int
    status: Status


Question = Embed | CountTokens | Tokenize | Detokenize | Render | AskStatus
Call = Generate | Question | Cancel
Message = ReplyBatch | EngineLoaded | LoadError | Heartbeat

_ENCODER = msgspec.msgpack.Encoder()
_DEMANDS: msgspec.msgpack.Decoder[Call] = msgspec.msgpack.Decoder(Call)
_REPORTS: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_BAD = (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError)


def pack(frame: Struct, most: int = MOST_BYTES) -> bytes:
    """Make a frame; raise `Unsendable` for what MessagePack cannot say, and for what is longer than `most` bytes."""
    try:
        body = _ENCODER.encode(frame)
    except _BAD as error:
        raise Unsendable(str(error)) from error
    if len(body) > most:
        raise Unsendable(f"it takes {len(body)} bytes; {most} are the most")
    return len(body).to_bytes(_PREFIX, "big") + body


def read_call(body: bytes) -> Call:
    """Read what a client sent; raise `MalformedFrame`."""
    try:
        return _DEMANDS.decode(body)
    except _BAD as error:
        raise MalformedFrame(str(error)) from error


def read_message(body: bytes) -> Message:
    """Read what a server sent; raise `MalformedFrame`."""
    try:
        return _REPORTS.decode(body)
    except _BAD as error:
        raise MalformedFrame(str(error)) from error


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


def _kinds(kind: type[EngineError]) -> Iterator[type[EngineError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)


# Only the tree that both sides know: a plugin's own error crosses as the nearest of its ancestors.
_KINDS: dict[str, type[EngineError]] = {
    kind.code: kind for kind in _kinds(EngineError) if kind.__module__ == errors.__name__
}


def to_failure(error: EngineError) -> Failure:
    """Turn an error into what crosses the border."""
    code = next(code for kind in type(error).__mro__ for code, known in _KINDS.items() if known is kind)
    after = error.retry_after if isinstance(error, Overloaded | Unavailable) else None
    return Failure(code, error.message, error.param, after)


def to_error(failure: Failure) -> EngineError:
    """Turn what crossed the border into the error that it was."""
    error = _KINDS.get(failure.code, EngineError)(failure.message)
    error.param = failure.param
    if failure.retry_after is not None and isinstance(error, Overloaded | Unavailable):
        error.retry_after = failure.retry_after
    return error
