"""`POST /v1/messages/count_tokens`."""

from functools import partial

from litestar import Controller, post
from litestar.di import NamedDependency
from litestar.response.base import ASGIResponse
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp

from gateway.api.anthropic.errors import WORDS
from gateway.api.anthropic.operation import COUNT_OPERATION
from gateway.api.anthropic.render import to_count
from gateway.api.anthropic.schema import CountBody, count_decoder
from gateway.api.anthropic.translate import reword, to_prompt
from gateway.api.exchange.answer import HttpRequest
from gateway.api.exchange.question import QuestionEndpoint, ask
from gateway.api.reference.errors import BODY, ENGINE, GENERATION, KEY, error_responses
from gateway.flow.offload import offload_large
from gateway.questions import Inquiry, Questions
from gateway.service import Inference


async def _count(questions: Questions, inquiry: Inquiry, body: CountBody) -> int:
    prompt = await offload_large(inquiry.weight, partial(to_prompt, body))
    return await questions.count_tokens(inquiry, prompt)


_COUNT = QuestionEndpoint(decoder=count_decoder, ask=_count, reword=reword)


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
        count, headers = await ask(request, inference, questions, _COUNT)
        return ASGIResponse(body=to_count(count), media_type="application/json", headers=headers)
