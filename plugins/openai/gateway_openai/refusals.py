"""A server's refusals in words of our own: its own may name its host."""

import datetime as dt
import email.utils
import math
import re
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from gateway.engine import (
    ContextTooLong,
    DeadlineExceeded,
    EngineError,
    InvalidRequest,
    Overloaded,
    Unavailable,
    UnknownModel,
    Unsupported,
    UpstreamFailed,
)

_LONGEST_WAIT = 3600.0
# How servers without a code for it say that a prompt is too long.
_TOO_LONG = re.compile(r"maximum context length|context (size|window|length)|exceed_context_size", re.IGNORECASE)


class _Refusal(Struct, frozen=True):
    code: str | int | None = None
    type: str | None = None
    param: str | None = None
    message: str | None = None


class _RefusalBody(Struct, frozen=True):
    error: _Refusal


def to_error(status: int, body: bytes, retry_after: str | None, sent: Mapping[str, str] | None = None) -> EngineError:
    """Return our error for a refusal; `sent` maps the words that the server was sent to our names for them."""
    refusal = _refusal(body)
    if status in (429, 503):
        seconds = _seconds(retry_after)
        kind = Overloaded if status == 429 else Unavailable  # noqa: PLR2004 - as HTTP numbers it
        return kind("the server behind this model takes no more now", retry_after=seconds)
    if refusal.code == "deadline_exceeded":
        return DeadlineExceeded("the time ran out at the server behind this model")
    if status == 404 and refusal.code == "model_not_found":  # noqa: PLR2004 - as above
        return UnknownModel("the server behind this engine has no such model")
    if status in (400, 413, 422):
        return _refused(refusal, sent or {})
    return UpstreamFailed(f"the server behind this model answered with the status {status}")


def _refused(refusal: _Refusal, sent: Mapping[str, str]) -> EngineError:
    said = f"{refusal.code} {refusal.type} {refusal.message}"
    if "context_length_exceeded" in said or _TOO_LONG.search(said):
        return ContextTooLong("prompt and answer do not fit the context of this model", param="prompt")
    param = _param(refusal.param, sent)
    if refusal.code == Unsupported.code:
        return Unsupported("the server behind this model does not support this", param=param)
    named = "the request" if param is None else f"the value of {param}"
    return InvalidRequest(f"the server behind this model refuses {named}", param=param)


def _refusal(body: bytes) -> _Refusal:
    try:
        return msgspec.json.decode(body, type=_RefusalBody).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Refusal()


def _param(name: str | None, sent: Mapping[str, str]) -> str | None:
    """Return our name of a parameter that was sent; anything else is the server's own affair."""
    return sent.get(re.split(r"[.\[]", name, maxsplit=1)[0]) if name else None


def _seconds(retry_after: str | None) -> float:
    """Read a header `Retry-After`, seconds or a date; one second where it says nothing, an hour at most."""
    seconds = _read_seconds(retry_after or "")
    return min(seconds, _LONGEST_WAIT) if seconds > 0 else 1.0


def _read_seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        at = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return math.nan
    zoned = at if at.tzinfo else at.replace(tzinfo=dt.UTC)
    return (zoned - dt.datetime.now(dt.UTC)).total_seconds()
