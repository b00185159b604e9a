"""`POST /v1/explain`."""

import msgspec
from litestar import post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp

from gateway.api.exchange.answer import HttpRequest
from gateway.api.explain.explaining import Explainer
from gateway.api.explain.operation import EXPLAIN_OPERATION
from gateway.api.explain.schema import explain_decoder
from gateway.api.http.access import caller_of
from gateway.api.http.body import decode_body, name_ignored
from gateway.api.http.headers import read_head
from gateway.api.http.reply import JsonReply
from gateway.api.http.sse import while_connected
from gateway.api.reference.errors import BODY, ENGINE, GENERATION, KEY, error_responses
from gateway.config.snapshot import CurrentConfig
from gateway.flow.offload import offload_large


@post(
    "/v1/explain",
    status_code=HTTP_200_OK,
    operation_id="explain",
    operation_class=EXPLAIN_OPERATION,
    tags=["requests"],
    summary="Explain a request",
    description="Say what would become of a request: which engine and why, the prompt as it would be read, its tokens,"
    " what each parameter becomes, what the caches have, its place in line, its limits. It gets the errors that its"
    " route would give. Nothing is computed or changed; for the limits of the key it is one request, which"
    " reads these prompts.",
    responses=error_responses(*KEY, *BODY, *ENGINE, *GENERATION),
)
async def explain(
    request: HttpRequest, explainer: NamedDependency[Explainer], current: NamedDependency[CurrentConfig]
) -> ASGIApp:
    """Explain the request in the body."""
    body, unknown, weight = await decode_body(request, explain_decoder)
    name_ignored(unknown, current.config.server)
    asked = explainer.explain(caller_of(request.scope), body.url, bytes(body.body), read_head(request.scope))
    explanation, headers = await while_connected(request.receive, asked)
    content = await offload_large(weight, lambda: msgspec.json.encode(explanation))
    return JsonReply(content, headers)
