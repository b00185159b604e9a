"""What an engine says across the border of its process, whatever carries it: last words of a call, errors, encodings.

An `EngineError` crosses with all its fields, a result or an argument as MessagePack of the structs of `gateway.engine`.
"""

import logging
from collections.abc import Iterator
from typing import TypeVar

import msgspec
from msgspec import Struct

from gateway.engine import errors
from gateway.engine.errors import EngineError, Overloaded, Unavailable

T = TypeVar("T")

_log = logging.getLogger(__name__)
_ENCODER = msgspec.msgpack.Encoder()
_BAD = (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError)


class MalformedFrame(Exception):
    """The peer sent a frame that cannot be read; the connection has to be closed."""


class Unsendable(Exception):
    """This cannot be put into a frame; the message gives the reason."""


class Ended(Struct, frozen=True, array_like=True, gc=False, tag="ended", forbid_unknown_fields=True):
    """The answer's generator has ended, and with it all that the call held."""


class Failure(Struct, frozen=True, array_like=True, gc=False, tag="failure", forbid_unknown_fields=True):
    """The call failed: an `EngineError` with all its fields."""

    code: str
    message: str
    param: str | None = None
    retry_after: float | None = None


class Result(Struct, frozen=True, array_like=True, gc=False, tag="result", forbid_unknown_fields=True):
    """The answer to a `Question`: what the method returned."""

    value: msgspec.Raw


BUG = Failure(EngineError.code, "the engine failed; the log says why")


def encode(value: object) -> bytes:
    """Encode as MessagePack; raise `Unsendable`."""
    try:
        return _ENCODER.encode(value)
    except _BAD as error:
        raise Unsendable(str(error)) from error


def to_raw(value: object) -> msgspec.Raw:
    """Encode the arguments or the result of a question; raise `Unsendable`."""
    return msgspec.Raw(encode(value))


def decode(body: bytes | msgspec.Raw, decoder: msgspec.msgpack.Decoder[T]) -> T:
    """Decode what the other process encoded; raise `MalformedFrame`."""
    try:
        return decoder.decode(body)
    except _BAD as error:
        raise MalformedFrame(str(error)) from error


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


def failure_of(error: BaseException) -> Failure:
    """Turn whatever an engine raised into what crosses the border; log what no engine may raise, and keep its words."""
    if isinstance(error, EngineError):
        return to_failure(error)
    _log.error("the engine raised what no engine may raise", exc_info=error)
    return BUG
