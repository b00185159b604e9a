import json

import pytest
from litestar.exceptions import (
    HTTPException,
    ImproperlyConfiguredException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)

from gateway.api.http.problems import OWN_WORDS, TABLE, Problem, to_problem
from gateway.engine import (
    ContextTooLong,
    DeadlineExceeded,
    Draining,
    EngineError,
    InvalidRequest,
    LoadFailed,
    Overloaded,
    Unavailable,
    UnknownModel,
    Unsupported,
    UpstreamFailed,
)


class Melted(Overloaded):
    """A plugin's own kind, with a code that no table knows."""

    code = "melted"


@pytest.mark.parametrize(
    ("kind", "status", "family"),
    [
        (EngineError, 500, "server_error"),
        (InvalidRequest, 400, "invalid_request_error"),
        (Unsupported, 400, "invalid_request_error"),
        (ContextTooLong, 400, "invalid_request_error"),
        (UnknownModel, 404, "invalid_request_error"),
        (Overloaded, 503, "overloaded_error"),
        (Unavailable, 503, "overloaded_error"),
        (Draining, 503, "overloaded_error"),
        (LoadFailed, 503, "overloaded_error"),
        (UpstreamFailed, 502, "upstream_error"),
        (DeadlineExceeded, 504, "timeout_error"),
    ],
)
def test_every_error_of_an_engine_has_its_status_and_body(kind, status, family):
    error = kind("so it is")
    error.param = "a[0].b"
    problem = to_problem(error)
    assert problem.status == status
    assert json.loads(OWN_WORDS.to_json(problem, "")) == {
        "error": {"message": "so it is", "type": family, "param": "a[0].b", "code": kind.code}
    }


def test_a_plugins_own_kind_of_error_counts_as_what_it_is_derived_from():
    problem = to_problem(Melted("too hot"))
    assert (problem.code, problem.status) == ("overloaded", 503)
    assert problem.headers["retry-after"]


@pytest.mark.parametrize(("asked", "low", "high"), [(0.4, 1, 5), (1, 1, 5), (2, 2, 5), (5, 5, 6), (60, 60, 61)])
def test_clients_are_told_to_come_back_at_different_times(asked, low, high):
    seconds = {int(to_problem(Unavailable("", retry_after=asked)).headers["retry-after"]) for _ in range(300)}
    assert (min(seconds), max(seconds)) == (low, high)


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        (EngineError(""), "false"),
        (DeadlineExceeded(""), "false"),
        (LoadFailed(""), "false"),
        (UpstreamFailed(""), None),
        (Unavailable(""), None),
    ],
)
def test_clients_are_told_where_trying_again_is_vain(error, retry):
    assert to_problem(error).headers.get("x-should-retry") == retry


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundException(), "not_found"),
        (MethodNotAllowedException(), "method_not_allowed"),
        (ValidationException(), "invalid_url"),
        (HTTPException(status_code=413), "request_too_large"),
        (HTTPException(status_code=415), "unsupported_media_type"),
        (HTTPException(status_code=418), "invalid_url"),
        (HTTPException(status_code=500), "internal_error"),
        (ImproperlyConfiguredException("secret"), "internal_error"),
        (RuntimeError("secret"), "internal_error"),
    ],
)
def test_the_frameworks_errors_and_bugs_are_said_in_our_words(error, code):
    problem = to_problem(error)
    assert problem.code == code
    assert problem.message
    assert "secret" not in problem.message


def test_the_headers_of_the_frameworks_errors_stay():
    assert to_problem(MethodNotAllowedException(headers={"allow": "GET"})).headers == {"allow": "GET"}


def test_a_problem_never_repeats_a_whole_body():
    problem = Problem("invalid_value", "m" * 9_999, param="p" * 9_999)
    assert (len(problem.message), len(problem.param)) == (1_000, 1_000)


@pytest.mark.parametrize("code", TABLE)
def test_every_code_has_a_status_and_a_message_of_its_own(code):
    problem = Problem(code)
    assert 400 <= problem.status < 600
    assert problem.message
    assert problem.param is None
