"""Routes that generate, made from their endpoints."""

from collections.abc import Sequence

from litestar import post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Operation
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.api.exchange.answer import HttpRequest, answer
from gateway.api.exchange.dialect import B, Endpoint
from gateway.api.http.problems import OWN_WORDS, ErrorWords
from gateway.api.reference.errors import BODY, ENGINE, GENERATION, KEY, error_responses
from gateway.service import Inference


class RouteDoc(Struct, frozen=True, kw_only=True):
    """What the documentation says of a route; `name` is the operation's id, and `tag` its dialect."""

    name: str
    tag: str
    summary: str
    description: str
    operation: type[Operation]
    errors: ErrorWords = OWN_WORDS


def generation(
    path: str, endpoint: Endpoint[B], doc: RouteDoc, aliases: Sequence[str] = ()
) -> tuple[HTTPRouteHandler, ...]:
    """Make the route of an endpoint; its aliases do the same, and the documentation leaves them out."""

    async def handle(request: HttpRequest, inference: NamedDependency[Inference]) -> ASGIApp:
        return await answer(request, inference, endpoint)

    documented = post(
        path,
        status_code=HTTP_200_OK,
        operation_id=doc.name,
        operation_class=doc.operation,
        tags=[doc.tag],
        summary=doc.summary,
        description=doc.description,
        responses=error_responses(*KEY, *BODY, *ENGINE, *GENERATION, words=doc.errors),
    )(handle)
    if not aliases:
        return (documented,)
    return documented, post(list(aliases), status_code=HTTP_200_OK, include_in_schema=False)(handle)
