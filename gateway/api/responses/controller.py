"""The routes of stored responses: read, resume, cancel, delete, list what they answer; and count tokens."""

from functools import partial

import msgspec
from litestar import Controller, delete, get, post
from litestar.di import NamedDependency
from litestar.response.base import ASGIResponse
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp

from gateway.api.exchange.answer import HttpRequest, event_stream
from gateway.api.exchange.paging import After, Limit, ListOrder, StoredList, refuse_unknown, to_page
from gateway.api.exchange.question import QuestionEndpoint, ask
from gateway.api.http.access import caller_of
from gateway.api.http.problems import Problem
from gateway.api.reference.errors import BODY, ENGINE, GENERATION, KEY, error_responses
from gateway.api.responses.framing import FRAMING
from gateway.api.responses.keeper import recall
from gateway.api.responses.operation import COUNT_OPERATION, STORED_OPERATION
from gateway.api.responses.queries import ResponsePath, Resumed, StartingAfter
from gateway.api.responses.references import resolve
from gateway.api.responses.reply import DeletedResponse, InputTokenCount
from gateway.api.responses.schema import PromptBody, input_tokens_decoder
from gateway.api.responses.stored import StoredResponses
from gateway.api.responses.translate import reword, to_prompt
from gateway.flow.offload import offload_large
from gateway.questions import Inquiry, Questions
from gateway.service import Inference

_ERRORS = error_responses(*KEY, "not_found", "invalid_value", "unsupported_parameter", "store_unavailable")


class StoredResponseController(Controller):
    """The stored responses of a caller; another caller's are not there."""

    path = "/v1/responses"
    tags = ("responses",)

    @get(
        "/{response_id:str}",
        operation_id="getResponse",
        operation_class=STORED_OPERATION,
        summary="A stored response",
        responses=_ERRORS,
    )
    async def read(
        self,
        request: HttpRequest,
        inference: NamedDependency[Inference],
        response_id: ResponsePath,
        *,
        stream: Resumed = False,
        starting_after: StartingAfter = None,
    ) -> ASGIApp:
        """Return a response as far as it is; one in the background also as a stream, from any of its events on."""
        refuse_unknown(request, "stream", "starting_after")
        stored = StoredResponses(inference, caller_of(request.scope))
        if stream:
            after = -1 if starting_after is None else starting_after
            return await event_stream(request, inference, await stored.stream(response_id, after), FRAMING)
        if starting_after is not None:
            raise Problem("invalid_value", "starting_after goes with stream", param="starting_after")
        return ASGIResponse(body=await stored.read(response_id), media_type="application/json")

    @delete(
        "/{response_id:str}",
        status_code=HTTP_200_OK,
        operation_id="deleteResponse",
        summary="Delete a response",
        response_description="It is no longer stored; one that was being made is ended.",
        responses=_ERRORS,
    )
    async def delete(
        self, request: HttpRequest, inference: NamedDependency[Inference], response_id: ResponsePath
    ) -> DeletedResponse:
        """Delete a stored response."""
        await StoredResponses(inference, caller_of(request.scope)).delete(response_id)
        return DeletedResponse(response_id)

    @post(
        "/{response_id:str}/cancel",
        status_code=HTTP_200_OK,
        operation_id="cancelResponse",
        operation_class=STORED_OPERATION,
        summary="Cancel a response",
        responses=_ERRORS,
    )
    async def cancel(
        self, request: HttpRequest, inference: NamedDependency[Inference], response_id: ResponsePath
    ) -> ASGIApp:
        """End a response that is made in the background; one that has ended stays as it is."""
        body = await StoredResponses(inference, caller_of(request.scope)).cancel(response_id)
        return ASGIResponse(body=body, media_type="application/json")

    @get(
        "/{response_id:str}/input_items",
        operation_id="listInputItems",
        summary="What a response answers",
        response_description="Items of the conversation up to the response.",
        responses=_ERRORS,
    )
    async def input_items(  # noqa: PLR0913 - the parameters of the URL
        self,
        request: HttpRequest,
        inference: NamedDependency[Inference],
        response_id: ResponsePath,
        *,
        limit: Limit = 20,
        after: After = None,
        order: ListOrder = "desc",
    ) -> StoredList:
        """List the items that a stored response answers, with those of the responses before it."""
        refuse_unknown(request, "limit", "after", "order")
        items = await StoredResponses(inference, caller_of(request.scope)).items(response_id)
        return to_page(items, after, limit, order)

    @post(
        "/input_tokens",
        status_code=HTTP_200_OK,
        operation_id="countInputTokens",
        operation_class=COUNT_OPERATION,
        summary="Count input tokens",
        responses=error_responses(*KEY, *BODY, *ENGINE, *GENERATION, "not_found", "store_unavailable"),
    )
    async def count(
        self, request: HttpRequest, inference: NamedDependency[Inference], questions: NamedDependency[Questions]
    ) -> ASGIApp:
        """Count the tokens that a model would read to answer."""

        async def count(questions: Questions, inquiry: Inquiry, body: PromptBody) -> bytes:
            shelf = inference.store.of(inquiry.caller.id)
            most_bytes = inference.config.server.max_body_bytes
            past = await recall(body, shelf, most_bytes)
            resolved = await resolve(body, shelf, most_bytes)
            prompt = await offload_large(inquiry.weight, partial(to_prompt, resolved, past))
            tokens = await questions.count_tokens(inquiry, prompt)
            return msgspec.json.encode(InputTokenCount(tokens))

        endpoint = QuestionEndpoint(decoder=input_tokens_decoder, ask=count, reword=reword)
        reply, headers = await ask(request, inference, questions, endpoint)
        return ASGIResponse(body=reply, media_type="application/json", headers=headers)
