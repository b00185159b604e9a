"""OpenAI's dialect: `/v1/chat/completions` and `/v1/completions`, also without their `/v1`."""

from gateway.api.exchange.dialect import Dialect, Endpoint
from gateway.api.exchange.paging import StoredList
from gateway.api.openai.operation import CHAT_OPERATION, COMPLETION_OPERATION
from gateway.api.openai.parameters import to_parameters
from gateway.api.openai.render_details import chat_rendering, text_rendering
from gateway.api.openai.reply import ChatChunk, ChatReply, CompletionReply
from gateway.api.openai.schema import (
    ChatCompletionBody,
    CompletionBody,
    CompletionChange,
    chat_decoder,
    completion_decoder,
)
from gateway.api.openai.stored import DeletedCompletion, to_keeper
from gateway.api.openai.stored_controller import StoredCompletionController, list_completions
from gateway.api.openai.translate import reword, to_prompts

_CHAT = Endpoint(
    path="/v1/chat/completions",
    aliases=("/chat/completions",),
    name="chatCompletions",
    summary="Chat completion",
    description="Answer a conversation as OpenAI's API does; whole, or as Server-Sent Events.",
    operation=CHAT_OPERATION,
    decoder=chat_decoder,
    to_prompts=to_prompts,
    to_rendering=chat_rendering,
    reword=reword,
    to_keeper=to_keeper,
)
_COMPLETION = Endpoint(
    path="/v1/completions",
    aliases=("/completions",),
    name="completions",
    summary="Completion",
    description="Continue one text or many as OpenAI's API does; whole, or as Server-Sent Events.",
    operation=COMPLETION_OPERATION,
    decoder=completion_decoder,
    to_prompts=to_prompts,
    to_rendering=text_rendering,
    reword=reword,
)

DIALECT = Dialect(
    name="openai",
    about="OpenAI's API, also without `/v1`. What is left out is what the model's own generation config says, else"
    " what OpenAI documents: temperature 1, and no cut-off or penalty.",
    endpoints=(_CHAT, _COMPLETION),
    routes=(StoredCompletionController, list_completions),
    schemas=(
        *(ChatCompletionBody, ChatReply, ChatChunk, CompletionBody, CompletionReply),
        *(CompletionChange, DeletedCompletion, StoredList),
    ),
    parameters={
        "chat.completions": lambda card: to_parameters(ChatCompletionBody, card),
        "completions": lambda card: to_parameters(CompletionBody, card),
    },
)
