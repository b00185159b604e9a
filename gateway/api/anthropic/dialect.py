"""Anthropic's dialect: `/v1/messages` and `/v1/messages/count_tokens`."""

from gateway.api.anthropic.controller import CountController
from gateway.api.anthropic.errors import WORDS
from gateway.api.anthropic.events import EVENTS, MessageReply, TokenCount
from gateway.api.anthropic.operation import MESSAGES_OPERATION
from gateway.api.anthropic.parameters import sort_out
from gateway.api.anthropic.render import PING, MessagesRendering
from gateway.api.anthropic.schema import CountBody, MessagesBody, messages_decoder
from gateway.api.anthropic.translate import reword, to_prompts
from gateway.api.exchange.dialect import Dialect, Endpoint
from gateway.api.http.sse import Framing

_MESSAGES = Endpoint(
    path="/v1/messages",
    name="messages",
    summary="Messages",
    description="Answer a conversation as Anthropic's API does; whole, or as Server-Sent Events.",
    operation=MESSAGES_OPERATION,
    decoder=messages_decoder,
    to_prompts=to_prompts,
    to_rendering=lambda body, card, own_id: MessagesRendering(card.name, own_id, body.thinking),
    reword=reword,
)

DIALECT = Dialect(
    name="anthropic",
    about="Anthropic's API. What is left out is what the model's own generation config says, else what Anthropic"
    " documents: temperature 1, and no cut-off. Of its headers, `anthropic-version` and `anthropic-beta` are taken and"
    " change nothing: what a beta adds to the body is honoured, refused or named in `x-ignored-params` by itself."
    " Errors have the body `MessageError`, and answers the request's id as `request-id`, too.",
    endpoints=(_MESSAGES,),
    routes=(CountController,),
    schemas=(MessagesBody, CountBody, MessageReply, TokenCount, *EVENTS),
    parameters={"messages": sort_out},
    paths=("/v1/messages",),
    framing=Framing(ping=PING, errors=WORDS, done=b""),
)
