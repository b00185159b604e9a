"""`POST /v1/messages/count_tokens`."""

from litestar import Controller, post
from litestar.di import NamedDependency
from litestar.response.base import ASGIResponse
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp

from gateway.api.anthropic.errors import WORDS
from gateway.api.anthropic.operation import COUNT_OPERATION
from gateway.api.anthropic.render import to_count
from gateway.api.anthropic.schema import count_decoder
from gateway.api.anthropic.translate import reword, to_prompt
from gateway.api.exchange.answer import HttpRequest
from gateway.api.http.access import caller_of
from gateway.api.http.body import name_ignored, read_body
from gateway.api.http.sse import while_connected
from gateway.api.reference.errors import BODY, ENGINE, GENERATION, KEY, error_responses
from gateway.engine import EngineError
from gateway.questions import Questions
from gateway.service import Inference


class CountController(Controller):
    """Counts tokens as Anthropic's API does."""

    path = "/v1/messages"

    @post(
        "/count_tokens",
        status_code=HTTP_200_OK,
        operation_id="countTokens",
        operation_class=COUNT_OPERATION,
        tags=["anthropic"],
        summary="Count message tokens",
        responses=error_responses(*KEY, *BODY, *ENGINE, *GENERATION, words=WORDS),
    )
    async def count_tokens(
        self, request: HttpRequest, inference: NamedDependency[Inference], questions: NamedDependency[Questions]
    ) -> ASGIApp:
        """Count the tokens that a model would read of a conversation."""
        caller = caller_of(request.scope)
        body, unknown = (await read_body(request)).decode(count_decoder)
        headers = name_ignored(unknown, inference.config.server)
        target = inference.find(body.model, caller)
        try:
            counting = questions.count_tokens(target, to_prompt(body), caller)
            count = await while_connected(request.receive, counting)
        except EngineError as error:
            reword(error, body)
            raise
        return ASGIResponse(body=to_count(count), media_type="application/json", headers=headers)
