"""`POST /tokenize`, `/detokenize` and `/apply-template`, and `GET /tokenizer_info`, also with `/v1`."""

from typing import Any

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK

from gateway.api.exchange.answer import HttpRequest
from gateway.api.exchange.question import ask, inquire
from gateway.api.reference.errors import BODY, ENGINE, GENERATION, KEY, error_responses
from gateway.api.reference.paths import AskedName, name_operation
from gateway.api.tokens.operation import DETOKENIZE_OPERATION, TEMPLATE_OPERATION, TOKENIZE_OPERATION
from gateway.api.tokens.questions import DETOKENIZE, TEMPLATE, TOKENIZE
from gateway.api.tokens.schema import DetokenizeReply, TemplateReply, TokenizeReply
from gateway.questions import Questions
from gateway.service import Inference

_REFUSALS = error_responses(*KEY, *BODY, *ENGINE, *GENERATION)


class TokenController(Controller):
    """Looks at tokens and templates."""

    path = "/"

    @post(
        ["/tokenize", "/v1/tokenize"],
        status_code=HTTP_200_OK,
        operation_id=name_operation,
        operation_class=TOKENIZE_OPERATION,
        tags=["tokens"],
        summary="Tokenize a text or a conversation",
        response_description="The tokens.",
        responses=_REFUSALS,
    )
    async def tokenize(
        self, request: HttpRequest, inference: NamedDependency[Inference], questions: NamedDependency[Questions]
    ) -> Response[TokenizeReply]:
        """Say which tokens a model reads."""
        reply, headers = await ask(request, inference, questions, TOKENIZE)
        return Response(reply, headers=headers)

    @post(
        ["/detokenize", "/v1/detokenize"],
        status_code=HTTP_200_OK,
        operation_id=name_operation,
        operation_class=DETOKENIZE_OPERATION,
        tags=["tokens"],
        summary="Turn tokens into text",
        response_description="The text.",
        responses=_REFUSALS,
    )
    async def detokenize(
        self, request: HttpRequest, inference: NamedDependency[Inference], questions: NamedDependency[Questions]
    ) -> Response[DetokenizeReply]:
        """Say which text the tokens are, special ones too."""
        reply, headers = await ask(request, inference, questions, DETOKENIZE)
        return Response(reply, headers=headers)

    @post(
        ["/apply-template", "/v1/apply-template"],
        status_code=HTTP_200_OK,
        operation_id=name_operation,
        operation_class=TEMPLATE_OPERATION,
        tags=["tokens"],
        summary="Put a conversation through its template",
        response_description="What the template wrote.",
        responses=_REFUSALS,
    )
    async def apply_template(
        self, request: HttpRequest, inference: NamedDependency[Inference], questions: NamedDependency[Questions]
    ) -> Response[TemplateReply]:
        """Say what a model reads of a conversation, as text."""
        reply, headers = await ask(request, inference, questions, TEMPLATE)
        return Response(reply, headers=headers)

    @get(
        ["/tokenizer_info", "/v1/tokenizer_info"],
        operation_id=name_operation,
        tags=["tokens"],
        summary="Describe a tokenizer",
        response_description="Its configuration, with its `tokenizer_class` and its `chat_template`.",
        responses=error_responses(*KEY, *ENGINE, *GENERATION),
    )
    async def tokenizer_info(
        self,
        request: HttpRequest,
        inference: NamedDependency[Inference],
        questions: NamedDependency[Questions],
        model: AskedName = None,
    ) -> dict[str, Any]:
        """Say how a model's tokenizer is configured, as its `tokenizer_config.json` has it."""
        return await inquire(request, inference, model, questions.tokenizer_info)
