"""The routes of stored chat completions."""

from typing import Annotated

from litestar import Controller, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter
from litestar.response.base import ASGIResponse
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp

from gateway.api.exchange.answer import HttpRequest
from gateway.api.exchange.paging import After, Limit, ListOrder, StoredList, refuse_unknown, to_page
from gateway.api.http.access import caller_of
from gateway.api.http.body import decode_body, name_ignored
from gateway.api.openai.operation import CHANGE_OPERATION, STORED_OPERATION
from gateway.api.openai.schema import completion_change_decoder
from gateway.api.openai.stored import DeletedCompletion, StoredCompletions, is_metadata, labels_of
from gateway.api.reference.errors import BODY, KEY, error_responses
from gateway.service import Inference

_STORED = (*KEY, "not_found", "invalid_value", "unsupported_parameter", "store_unavailable")
_ERRORS = error_responses(*_STORED)
CompletionPath = Annotated[
    str,
    PathParameter(description="The completion's id.", examples=[Example(value="chatcmpl-01KDVXK0M4Q2E6S9ZB3H7TJN5R")]),
]
ByModel = Annotated[
    str | None, QueryParameter(description="Only those of this model, by any of its names. Left out: all.")
]


class StoredCompletionController(Controller):
    """The stored chat completions of a caller; another caller's are not there."""

    path = "/v1/chat/completions"
    tags = ("openai",)

    @get(
        "/{completion_id:str}",
        operation_id="getChatCompletion",
        operation_class=STORED_OPERATION,
        summary="A stored chat completion",
        responses=_ERRORS,
    )
    async def read(
        self, request: HttpRequest, inference: NamedDependency[Inference], completion_id: CompletionPath
    ) -> ASGIApp:
        """Return a stored chat completion as it was answered."""
        return _json(await _of(request, inference).read(completion_id))

    @post(
        "/{completion_id:str}",
        status_code=HTTP_200_OK,
        operation_id="updateChatCompletion",
        operation_class=CHANGE_OPERATION,
        summary="Describe a chat completion",
        responses=error_responses(*_STORED, *BODY),
    )
    async def update(
        self, request: HttpRequest, inference: NamedDependency[Inference], completion_id: CompletionPath
    ) -> ASGIApp:
        """Give a stored chat completion other metadata."""
        body, unknown, _ = await decode_body(request, completion_change_decoder)
        headers = name_ignored(unknown, inference.config.server)
        return _json(await _of(request, inference).describe(completion_id, body.metadata), headers)

    @get(
        "/{completion_id:str}/messages",
        operation_id="listChatMessages",
        summary="What a chat completion answers",
        response_description="Messages.",
        responses=_ERRORS,
    )
    async def messages(  # noqa: PLR0913 - the parameters of the URL
        self,
        request: HttpRequest,
        inference: NamedDependency[Inference],
        completion_id: CompletionPath,
        *,
        limit: Limit = 20,
        after: After = None,
        order: ListOrder = "asc",
    ) -> StoredList:
        """List the messages that a stored chat completion answers."""
        refuse_unknown(request, "limit", "after", "order")
        return to_page(await _of(request, inference).messages(completion_id), after, limit, order)

    @delete(
        "/{completion_id:str}",
        status_code=HTTP_200_OK,
        operation_id="deleteChatCompletion",
        summary="Delete a chat completion",
        response_description="It is no longer stored.",
        responses=_ERRORS,
    )
    async def forget(
        self, request: HttpRequest, inference: NamedDependency[Inference], completion_id: CompletionPath
    ) -> DeletedCompletion:
        """Delete a stored chat completion."""
        await _of(request, inference).delete(completion_id)
        return DeletedCompletion(completion_id)


# No part of the controller: Litestar adds a handler to the path of another one only where it stands alone.
@get(
    "/v1/chat/completions",
    tags=["openai"],
    operation_id="listChatCompletions",
    summary="Stored chat completions",
    response_description="Chat completions.",
    responses=_ERRORS,
)
async def list_completions(  # noqa: PLR0913 - the parameters of the URL
    request: HttpRequest,
    inference: NamedDependency[Inference],
    *,
    limit: Limit = 20,
    after: After = None,
    order: ListOrder = "asc",
    model: ByModel = None,
) -> StoredList:
    """List stored chat completions; `metadata[NAME]=VALUE` in the URL leaves those that have it."""
    names = list(request.query_params.items())
    refuse_unknown(request, "limit", "after", "order", "model", *(name for name, _ in names if is_metadata(name)))
    own_name = model if model is None else inference.router.name(model) or model
    return await _of(request, inference).page(labels_of(own_name, names), after, limit, order)


def _of(request: HttpRequest, inference: Inference) -> StoredCompletions:
    return StoredCompletions(inference.store.of(caller_of(request.scope).id))


def _json(body: bytes, headers: dict[str, str] | None = None) -> ASGIResponse:
    return ASGIResponse(body=body, media_type="application/json", headers=headers or {})
