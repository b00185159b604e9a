"""OpenAI's newer dialect: `/v1/responses`."""

from gateway.api.exchange.dialect import Dialect, Endpoint
from gateway.api.exchange.paging import StoredList
from gateway.api.responses.controller import StoredResponseController
from gateway.api.responses.conversation_controller import ConversationController
from gateway.api.responses.conversation_schema import ConversationChange, ItemsBody, NewConversation
from gateway.api.responses.events import EVENTS
from gateway.api.responses.framing import FRAMING
from gateway.api.responses.items import ScoredToken
from gateway.api.responses.keeper import to_keeper
from gateway.api.responses.operation import RESPONSES_OPERATION
from gateway.api.responses.parameters import sort_out
from gateway.api.responses.render import to_rendering
from gateway.api.responses.reply import (
    DeletedConversation,
    DeletedResponse,
    InputTokenCount,
    ResponseObject,
    StoredConversation,
)
from gateway.api.responses.schema import PromptBody, ResponsesBody, responses_decoder
from gateway.api.responses.translate import reword, to_prompts

_RESPONSES = Endpoint(
    path="/v1/responses",
    name="responses",
    summary="Response",
    description="Answer a question or a conversation as OpenAI's Responses API does: whole, as Server-Sent Events, or"
    " in the background.",
    operation=RESPONSES_OPERATION,
    decoder=responses_decoder,
    to_prompts=to_prompts,
    to_rendering=to_rendering,
    reword=reword,
    to_keeper=to_keeper,
)

DIALECT = Dialect(
    name="responses",
    about="OpenAI's newer API. Answers are stored for their caller unless `store` is false, for a time and within a"
    " size that the configuration says; one that was to be stored and could not be has the header `x-stored: false`."
    " What is left out is what the model's own generation config says, else what OpenAI documents: temperature 1, and"
    " no cut-off.",
    endpoints=(_RESPONSES,),
    routes=(StoredResponseController, ConversationController),
    schemas=(
        *(
            ResponsesBody,
            PromptBody,
            ResponseObject,
            DeletedResponse,
            InputTokenCount,
            StoredList,
            *EVENTS,
            ScoredToken,
        ),
        *(NewConversation, ConversationChange, ItemsBody, StoredConversation, DeletedConversation),
    ),
    parameters={"responses": sort_out},
    paths=("/v1/responses",),
    framing=FRAMING,
)
