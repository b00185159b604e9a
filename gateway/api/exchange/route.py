"""The routes of a dialect that generate, made from its endpoints."""

from collections.abc import Iterator
from typing import Any

from litestar import post
from litestar.handlers import HTTPRouteHandler
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.api.exchange.answer import HttpRequest, answer
from gateway.api.exchange.dialect import Dialect, Endpoint
from gateway.api.http.connection import RawRequest
from gateway.api.reference.errors import BODY, ENGINE, GENERATION, KEY, error_responses
from gateway.service import Inference


def generations(dialect: Dialect, inference: Inference) -> Iterator[HTTPRouteHandler]:
    """Make the routes of a dialect's endpoints, and of their aliases.

    They are handed what answers them here, and answer as the innermost layer around their handlers, which Litestar
    knows and documents: what it does to call a handler is an eighth of a small request's time.
    """
    for endpoint in dialect.endpoints:
        yield from _generation(dialect, endpoint, inference)


def _generation(dialect: Dialect, endpoint: Endpoint[Any], inference: Inference) -> Iterator[HTTPRouteHandler]:
    async def handle(request: HttpRequest) -> ASGIApp:
        return await answer(request, inference, endpoint, dialect.framing)

    def at_once(app: ASGIApp) -> ASGIApp:
        del app

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            reply = await answer(RawRequest(scope, receive), inference, endpoint, dialect.framing)
            await reply(scope, receive, send)

        return respond

    yield post(
        endpoint.path,
        status_code=HTTP_200_OK,
        operation_id=endpoint.name,
        operation_class=endpoint.operation,
        tags=[dialect.name],
        summary=endpoint.summary,
        description=endpoint.description,
        responses=error_responses(*KEY, *BODY, *ENGINE, *GENERATION, words=dialect.errors),
        middleware=[at_once],
    )(handle)
    if endpoint.aliases:
        aliases = list(endpoint.aliases)
        yield post(aliases, status_code=HTTP_200_OK, include_in_schema=False, middleware=[at_once])(handle)
