"""How an error is told on a path: in the words of the dialect that is spoken there."""

from msgspec import Struct

from gateway.api.anthropic.render import to_error, to_status
from gateway.api.http.problems import Problem
from gateway.telemetry import request_id

_MESSAGES = "/v1/messages"


class ErrorResponse(Struct, frozen=True):
    """The answer that tells of an error."""

    status: int
    body: bytes


def error_response(problem: Problem, path: str) -> ErrorResponse:
    """Write the answer that tells of `problem`."""
    if _speaks_anthropic(path):
        return ErrorResponse(to_status(problem), to_error(problem, request_id.get()))
    return ErrorResponse(problem.status, problem.body())


def id_headers(path: str) -> tuple[bytes, ...]:
    """Name the headers that hold the request's id; Anthropic's clients know one of their own."""
    return (b"x-request-id", b"request-id") if _speaks_anthropic(path) else (b"x-request-id",)


def _speaks_anthropic(path: str) -> bool:
    """Tell whether a path is one of Anthropic's API."""
    return path == _MESSAGES or path.startswith(f"{_MESSAGES}/")
