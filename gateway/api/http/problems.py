"""Errors over HTTP: the code decides the status, the dialect the body."""

import random
from collections.abc import Callable, Mapping
from typing import Annotated

import msgspec
from litestar.exceptions import HTTPException, ValidationException
from litestar.status_codes import HTTP_500_INTERNAL_SERVER_ERROR
from msgspec import Meta, Struct

from gateway.engine import EngineError, Overloaded, Unavailable
from gateway.limits import LimitReached

# code -> status, type
TABLE = {
    "invalid_json": (400, "invalid_request_error"),
    "invalid_value": (400, "invalid_request_error"),
    "invalid_url": (400, "invalid_request_error"),
    "bad_host": (400, "invalid_request_error"),
    "key_in_url": (400, "invalid_request_error"),
    "duplicate_header": (400, "invalid_request_error"),
    "unsupported_parameter": (400, "invalid_request_error"),
    "context_length_exceeded": (400, "invalid_request_error"),
    "missing_api_key": (401, "authentication_error"),
    "invalid_api_key": (401, "authentication_error"),
    "quota_exceeded": (403, "permission_error"),
    "origin_not_allowed": (403, "permission_error"),
    "insufficient_scope": (403, "permission_error"),
    "not_found": (404, "invalid_request_error"),
    "model_not_found": (404, "invalid_request_error"),
    "method_not_allowed": (405, "invalid_request_error"),
    "body_timeout": (408, "timeout_error"),
    "request_too_large": (413, "invalid_request_error"),
    "unsupported_media_type": (415, "invalid_request_error"),
    "rate_limit_exceeded": (429, "rate_limit_error"),
    "tokens_exceeded": (429, "rate_limit_error"),
    "too_many_concurrent": (429, "rate_limit_error"),
    "too_many_batches": (429, "rate_limit_error"),
    "not_repeatable": (409, "invalid_request_error"),
    "file_in_use": (409, "invalid_request_error"),
    "cancelled": (409, "invalid_request_error"),
    "client_closed_request": (499, "invalid_request_error"),
    "write_timeout": (499, "timeout_error"),
    "internal_error": (500, "server_error"),
    "engine_error": (500, "server_error"),
    "request_quarantined": (500, "server_error"),
    "upstream_unavailable": (502, "upstream_error"),
    "overloaded": (503, "overloaded_error"),
    "memory_pressure": (503, "overloaded_error"),
    "queue_timeout": (503, "overloaded_error"),
    "engine_restarted": (503, "overloaded_error"),
    "engine_unavailable": (503, "overloaded_error"),
    "draining": (503, "overloaded_error"),
    "keys_unavailable": (503, "overloaded_error"),
    "store_unavailable": (503, "overloaded_error"),
    "load_failed": (503, "overloaded_error"),
    "deadline_exceeded": (504, "timeout_error"),
}

# What a bare HTTP status of the framework means in our terms.
_CODES = {
    400: "invalid_url",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "unsupported_media_type",
}
# Seconds; an engine that asks for a longer wait gets it.
_LATEST_RETRY = 5

# Characters; an error never repeats a whole body.
_LONGEST = 1_000

_MESSAGES = {
    "invalid_url": "the request line or a parameter in it is malformed",
    "not_found": "there is nothing at this path; the APIs are under /v1",
    "method_not_allowed": "this method is not taken here; the header Allow names those that are",
    "request_too_large": "the body is too large",
    "unsupported_media_type": "the content type is not application/json; send that (curl --json)",
    "internal_error": "something went wrong here; the log says what",
}


class ErrorDetail(Struct, frozen=True):
    """What went wrong."""

    message: Annotated[str, Meta(description="What went wrong, for people.", examples=["temperature: expected <= 2"])]
    type: Annotated[str, Meta(description="The family of the error.", examples=["invalid_request_error"])]
    param: Annotated[str | None, Meta(description="The path of the field at fault.", examples=["messages[0].role"])]
    code: Annotated[str, Meta(description="What went wrong, for programs.", examples=["invalid_value"])]


class ErrorBody(Struct, frozen=True):
    """The body of every error, and of the last frame of a stream that failed."""

    error: ErrorDetail


class Problem(Exception):
    """An error of the HTTP side, by the code of the table."""

    def __init__(
        self, code: str, message: str = "", *, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.is_general = not message
        self.message = (message or _MESSAGES.get(code, code))[:_LONGEST]
        self.param = param and param[:_LONGEST]
        self.headers = dict(headers or {})

    @property
    def status(self) -> int:
        """The HTTP status."""
        return TABLE[self.code][0]


def to_detail(problem: Problem) -> ErrorDetail:
    """Write what went wrong."""
    return ErrorDetail(problem.message, TABLE[problem.code][1], problem.param, problem.code)


def _to_body(problem: Problem, request_id: str) -> Struct:
    del request_id
    return ErrorBody(to_detail(problem))


class ErrorWords(Struct, frozen=True, kw_only=True):
    """How an API tells of errors: the struct of their bodies, the status, and the headers that hold the request's id.

    `to_body` takes the problem and the request's id. `event` is the name of the event that ends a stream which failed.
    """

    schema: type[Struct] = ErrorBody
    to_body: Callable[[Problem, str], Struct] = _to_body
    to_status: Callable[[Problem], int] = lambda problem: problem.status
    id_headers: tuple[bytes, ...] = (b"x-request-id",)
    event: str = ""

    def to_json(self, problem: Problem, request_id: str) -> bytes:
        """Encode the body of an error."""
        return msgspec.json.encode(self.to_body(problem, request_id))

    def to_frame(self, problem: Problem, request_id: str) -> bytes:
        """Encode the SSE frame that ends a stream which failed."""
        name = f"event: {self.event}\n".encode() if self.event else b""
        return b"%bdata: %b\n\n" % (name, self.to_json(problem, request_id))


OWN_WORDS = ErrorWords()


def to_problem(error: BaseException) -> Problem:
    """Turn any error into a `Problem`; an unforeseen one is a bug, and discloses nothing."""
    match error:
        case Problem():
            return error
        case LimitReached():
            message = f"{error.message}; try again in {error.headers['retry-after']} s"
            return Problem(error.code, message, headers=error.headers)
        case EngineError():
            return Problem(_known_code(error), error.message, param=error.param, headers=_hints(error))
        case ValidationException(extra=[{"key": str(key), "message": str(message)}, *_]):
            return Problem("invalid_value", f"{key}: {message[:1].lower()}{message[1:]}", param=key)
        case HTTPException() if error.status_code < HTTP_500_INTERNAL_SERVER_ERROR:
            code = _CODES.get(error.status_code, "invalid_url")
            return Problem(code, headers=error.headers)
        case _:
            return Problem("internal_error")


def _known_code(error: EngineError) -> str:
    """Find the code of the table: a plugin's own kind of error counts as the kind that it is derived from."""
    kinds = (kind for kind in type(error).__mro__ if issubclass(kind, EngineError))
    return next(kind.code for kind in kinds if kind.code in TABLE)


def _hints(error: EngineError) -> dict[str, str]:
    """Tell clients when, and whether, to try again; the jitter keeps them from coming back all at once."""
    if isinstance(error, Overloaded | Unavailable):
        spread = max(_LATEST_RETRY - error.retry_after, 1)
        seconds = error.retry_after + random.uniform(0, spread)  # noqa: S311 - no secret
        return {"retry-after": str(max(1, round(seconds)))}
    if error.code in ("deadline_exceeded", "engine_error", "load_failed", "request_quarantined", "cancelled"):
        return {"x-should-retry": "false"}
    return {}
