"""Errors of the routes that rerank: as elsewhere, and the reason again where clients of Jina and Cohere look for it."""

from typing import Annotated

from msgspec import Meta, Struct

from gateway.api.http.problems import ErrorDetail, ErrorWords, Problem, to_detail

_REASON = "the model 'x' is not here"


class RankingErrorBody(Struct, frozen=True):
    """The body of every error of a route that reranks."""

    error: ErrorDetail
    detail: Annotated[str, Meta(description="What went wrong, where Jina's API has it.", examples=[_REASON])]
    message: Annotated[str, Meta(description="What went wrong, where Cohere's API has it.", examples=[_REASON])]


def to_body(problem: Problem, request_id: str) -> RankingErrorBody:
    """Write the body of an error."""
    del request_id
    return RankingErrorBody(to_detail(problem), problem.message, problem.message)


WORDS = ErrorWords(schema=RankingErrorBody, to_body=to_body)
