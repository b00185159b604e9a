"""`/v1/conversations`: made, read, described, deleted, and their items."""

import msgspec
from litestar import Controller, delete, get, post
from litestar.di import NamedDependency
from litestar.response.base import ASGIResponse
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp
from msgspec import Raw

from gateway.api.exchange.answer import HttpRequest
from gateway.api.exchange.paging import After, Limit, ListOrder, StoredList, refuse_unknown, to_list, to_page
from gateway.api.http.access import caller_of
from gateway.api.http.body import decode_body, name_ignored
from gateway.api.reference.errors import BODY, KEY, error_responses
from gateway.api.responses.conversation_schema import conversation_change_decoder, conversation_decoder, items_decoder
from gateway.api.responses.conversations import Conversations, check_items
from gateway.api.responses.items import InputItem
from gateway.api.responses.keeper import to_stored
from gateway.api.responses.operation import ADD_OPERATION, CONVERSATION_OPERATION, DESCRIBE_OPERATION, ITEM_OPERATION
from gateway.api.responses.queries import ConversationPath, ItemPath
from gateway.api.responses.reply import DeletedConversation, StoredConversation
from gateway.service import Inference
from gateway.telemetry import request_id

_STORED = (*KEY, "not_found", "invalid_value", "unsupported_parameter", "store_unavailable")
_ERRORS = error_responses(*_STORED)
_BODY_ERRORS = error_responses(*_STORED, *BODY)


class ConversationController(Controller):
    """The stored conversations of a caller; another caller's are not there."""

    path = "/v1/conversations"
    tags = ("responses",)

    @post(
        status_code=HTTP_200_OK,
        operation_id="createConversation",
        operation_class=CONVERSATION_OPERATION,
        summary="Make a conversation",
        responses=_BODY_ERRORS,
    )
    async def create(self, request: HttpRequest, inference: NamedDependency[Inference]) -> ASGIApp:
        """Make a conversation, which responses may go on with."""
        body, unknown, _ = await decode_body(request, conversation_decoder)
        headers = name_ignored(unknown, inference.config.server)
        identity = f"conv_{request_id.get()}"
        items = _checked(body.items or ())
        return _json(await _of(request, inference).create(identity, items, body.metadata or {}), headers)

    @get(
        "/{conversation_id:str}",
        operation_id="getConversation",
        summary="A conversation",
        response_description="The conversation.",
        responses=_ERRORS,
    )
    async def read(
        self, request: HttpRequest, inference: NamedDependency[Inference], conversation_id: ConversationPath
    ) -> StoredConversation:
        """Return a conversation without its items."""
        return await _of(request, inference).read(conversation_id)

    @post(
        "/{conversation_id:str}",
        status_code=HTTP_200_OK,
        operation_id="updateConversation",
        operation_class=DESCRIBE_OPERATION,
        summary="Describe a conversation",
        responses=_BODY_ERRORS,
    )
    async def update(
        self, request: HttpRequest, inference: NamedDependency[Inference], conversation_id: ConversationPath
    ) -> ASGIApp:
        """Give a conversation other metadata."""
        body, unknown, _ = await decode_body(request, conversation_change_decoder)
        headers = name_ignored(unknown, inference.config.server)
        return _json(await _of(request, inference).describe(conversation_id, body.metadata), headers)

    @delete(
        "/{conversation_id:str}",
        status_code=HTTP_200_OK,
        operation_id="deleteConversation",
        summary="Delete a conversation",
        response_description="It is no longer stored; the responses in it are.",
        responses=_ERRORS,
    )
    async def forget(
        self, request: HttpRequest, inference: NamedDependency[Inference], conversation_id: ConversationPath
    ) -> DeletedConversation:
        """Delete a conversation with its items."""
        await _of(request, inference).delete(conversation_id)
        return DeletedConversation(conversation_id)

    @post(
        "/{conversation_id:str}/items",
        status_code=HTTP_200_OK,
        operation_id="addItems",
        operation_class=ADD_OPERATION,
        summary="Add to a conversation",
        responses=_BODY_ERRORS,
    )
    async def add(
        self, request: HttpRequest, inference: NamedDependency[Inference], conversation_id: ConversationPath
    ) -> ASGIApp:
        """Put items at the end of a conversation; they are the answer, with their ids."""
        body, unknown, _ = await decode_body(request, items_decoder)
        headers = name_ignored(unknown, inference.config.server)
        items = _checked(body.items)
        await _of(request, inference).add(conversation_id, items)
        return _json(to_list(items, has_more=False), headers)

    @get(
        "/{conversation_id:str}/items",
        operation_id="listItems",
        summary="The items of a conversation",
        response_description="Items of the conversation.",
        responses=_ERRORS,
    )
    async def items(  # noqa: PLR0913 - the parameters of the URL
        self,
        request: HttpRequest,
        inference: NamedDependency[Inference],
        conversation_id: ConversationPath,
        *,
        limit: Limit = 20,
        after: After = None,
        order: ListOrder = "desc",
    ) -> StoredList:
        """List the items of a conversation."""
        refuse_unknown(request, "limit", "after", "order")
        return to_page(await _of(request, inference).items(conversation_id), after, limit, order)

    @get(
        "/{conversation_id:str}/items/{item_id:str}",
        operation_id="getItem",
        operation_class=ITEM_OPERATION,
        summary="An item of a conversation",
        responses=_ERRORS,
    )
    async def item(
        self,
        request: HttpRequest,
        inference: NamedDependency[Inference],
        conversation_id: ConversationPath,
        item_id: ItemPath,
    ) -> ASGIApp:
        """Return an item of a conversation."""
        refuse_unknown(request)
        item = await _of(request, inference).item(conversation_id, item_id)
        return ASGIResponse(body=bytes(item), media_type="application/json")

    @delete(
        "/{conversation_id:str}/items/{item_id:str}",
        status_code=HTTP_200_OK,
        operation_id="deleteItem",
        summary="Take an item out of a conversation",
        response_description="The conversation without it.",
        responses=_ERRORS,
    )
    async def remove(
        self,
        request: HttpRequest,
        inference: NamedDependency[Inference],
        conversation_id: ConversationPath,
        item_id: ItemPath,
    ) -> StoredConversation:
        """Take an item out of a conversation."""
        return await _of(request, inference).remove(conversation_id, item_id)


def _of(request: HttpRequest, inference: Inference) -> Conversations:
    return Conversations(inference.store.of(caller_of(request.scope).id), inference.config.server.max_body_bytes)


def _checked(items: tuple[InputItem, ...]) -> list[Raw]:
    check_items(items)
    return [Raw(msgspec.json.encode(item)) for item in to_stored(items, request_id.get())]


def _json(value: object, headers: dict[str, str]) -> ASGIResponse:
    return ASGIResponse(body=msgspec.json.encode(value), media_type="application/json", headers=headers)
