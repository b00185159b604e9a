"""Errors in Anthropic's words."""

from gateway.api.anthropic.events import MessageError, MessageErrorDetail
from gateway.api.http.problems import ErrorWords, Problem

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
    504: "timeout_error",
}
_SERVER_ERRORS = 500

# Anthropic's own status for too much to do, which its clients know as an exception of its own.
_OVERLOADED = 529
_OVERLOADS = frozenset({"overloaded", "memory_pressure", "queue_timeout"})


def to_body(problem: Problem, request_id: str | None) -> MessageError:
    """Write the body of an error."""
    kind = _ERRORS.get(problem.status)
    if kind is None:
        kind = "api_error" if problem.status >= _SERVER_ERRORS else "invalid_request_error"
    is_said = problem.param is None or problem.param in problem.message
    message = problem.message if is_said else f"{problem.param}: {problem.message}"
    return MessageError(MessageErrorDetail(kind, message), request_id)


def to_status(problem: Problem) -> int:
    """Return the HTTP status of an error."""
    return _OVERLOADED if problem.code in _OVERLOADS else problem.status


WORDS = ErrorWords(
    schema=MessageError,
    to_body=to_body,
    to_status=to_status,
    id_headers=(b"x-request-id", b"request-id"),
    event="error",
)
