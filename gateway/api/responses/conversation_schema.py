"""Bodies of `/v1/conversations`."""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from gateway.api.http.unknown_fields import ApiBody
from gateway.api.reference.examples import QUESTION
from gateway.api.responses.items import InputItem
from gateway.api.responses.schema import Labels


class NewConversation(ApiBody, frozen=True, kw_only=True):
    """A conversation to be made."""

    route: ClassVar[str] = "/v1/conversations"
    generates: ClassVar[bool] = False

    items: Annotated[
        Annotated[tuple[InputItem, ...], Meta(max_length=2_048)] | None,
        Meta(description="What it begins with. Left out: nothing.", examples=[[{"role": "user", "content": QUESTION}]]),
    ] = None
    metadata: Annotated[Labels | None, Meta(description="Labels. Left out: none.", examples=[{"topic": "demo"}])] = None


class ConversationChange(ApiBody, frozen=True, kw_only=True):
    """What becomes of a conversation."""

    route: ClassVar[str] = "/v1/conversations/{conversation_id}"
    generates: ClassVar[bool] = False

    metadata: Annotated[Labels, Meta(description="In the place of what it had.", examples=[{"topic": "demo"}])]


class ItemsBody(ApiBody, frozen=True, kw_only=True):
    """Items for the end of a conversation."""

    route: ClassVar[str] = "/v1/conversations/{conversation_id}/items"
    generates: ClassVar[bool] = False

    items: Annotated[
        Annotated[tuple[InputItem, ...], Meta(min_length=1, max_length=2_048)],
        Meta(description="The items.", examples=[[{"role": "user", "content": QUESTION}]]),
    ]


conversation_decoder = msgspec.json.Decoder(NewConversation)
conversation_change_decoder = msgspec.json.Decoder(ConversationChange)
items_decoder = msgspec.json.Decoder(ItemsBody)
