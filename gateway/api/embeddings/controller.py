"""`POST /v1/embeddings`, also without `/v1`, and `POST /embedding`."""

from litestar import Controller, Response, post
from litestar.di import NamedDependency
from litestar.response.base import ASGIResponse
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp

from gateway.api.embeddings.operation import CONTENT_OPERATION, EMBEDDINGS_OPERATION
from gateway.api.embeddings.questions import CONTENT, EMBEDDINGS
from gateway.api.embeddings.schema import ContentVector
from gateway.api.exchange.answer import HttpRequest
from gateway.api.exchange.question import ask
from gateway.api.reference.errors import BODY, ENGINE, GENERATION, KEY, error_responses
from gateway.api.reference.paths import name_operation
from gateway.questions import Questions
from gateway.service import Inference

_REFUSALS = error_responses(*KEY, *BODY, *ENGINE, *GENERATION)


class EmbeddingController(Controller):
    """Turns texts into vectors."""

    path = "/"

    @post(
        ["/v1/embeddings", "/embeddings"],
        status_code=HTTP_200_OK,
        operation_id=name_operation,
        operation_class=EMBEDDINGS_OPERATION,
        tags=["embeddings"],
        summary="Turn texts into vectors",
        responses=_REFUSALS,
    )
    async def embed(
        self, request: HttpRequest, inference: NamedDependency[Inference], questions: NamedDependency[Questions]
    ) -> ASGIApp:
        """Return a vector for each text, in their order."""
        reply, headers = await ask(request, inference, questions, EMBEDDINGS)
        return ASGIResponse(body=reply, media_type="application/json", headers=headers)

    @post(
        "/embedding",
        status_code=HTTP_200_OK,
        operation_id=name_operation,
        operation_class=CONTENT_OPERATION,
        tags=["embeddings"],
        summary="Turn a text into a vector, as llama.cpp does",
        response_description="The vectors.",
        responses=_REFUSALS,
    )
    async def embed_content(
        self, request: HttpRequest, inference: NamedDependency[Inference], questions: NamedDependency[Questions]
    ) -> Response[tuple[ContentVector, ...]]:
        """Return a vector for each content, in their order."""
        reply, headers = await ask(request, inference, questions, CONTENT)
        return Response(reply, headers=headers)
