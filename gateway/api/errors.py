"""Errors in the words of the dialect that is spoken on their path."""

from collections.abc import Iterable, Mapping

from litestar import Request, Response
from litestar.datastructures import State
from loguru import logger
from msgspec import Struct

from gateway.api.exchange.dialect import Dialect
from gateway.api.http.directions import direct
from gateway.api.http.problems import OWN_WORDS, ErrorWords, Problem, to_problem
from gateway.telemetry import current_record, request_id


class ErrorResponse(Struct, frozen=True):
    """The answer that tells of an error."""

    status: int
    body: bytes


class Errors:
    """Writes errors; `dialects` are asked for their own words, and `others` has those of paths of no dialect."""

    def __init__(self, dialects: Iterable[Dialect], others: Mapping[str, ErrorWords]) -> None:
        self._words = {prefix: dialect.errors for dialect in dialects for prefix in dialect.paths} | dict(others)

    def words(self, path: str) -> ErrorWords:
        """Find the words of a path."""
        for prefix, words in self._words.items():
            if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
                return words
        return OWN_WORDS

    def response(self, problem: Problem, path: str) -> ErrorResponse:
        """Write the answer that tells of `problem` on a path."""
        words = self.words(path)
        return ErrorResponse(words.to_status(problem), words.to_json(problem, request_id.get()))

    def answer(self, request: Request[None, None, State], error: Exception) -> Response[bytes]:
        """Answer every error that a route raises in the words of its path; log errors that nothing foresaw."""
        problem = direct(to_problem(error), request.scope)
        if problem.code == "internal_error":
            logger.opt(exception=error).error("a request failed in a way that nothing foresaw")
        current_record().code = problem.code
        response = self.response(problem, request.scope["path"])
        return Response(
            response.body, status_code=response.status, headers=problem.headers, media_type="application/json"
        )
