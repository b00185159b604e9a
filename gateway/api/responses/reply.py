"""Answers of `/v1/responses`."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct

from gateway.api.exchange.constraint import StructuredAnswer
from gateway.api.reference.examples import MODEL
from gateway.api.responses.items import OutputItem

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
FailureCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]


class ResponseInputTokens(Struct, frozen=True):
    """Tokens of the prompt that did not have to be computed again."""

    cached_tokens: Annotated[int, Meta(description="Those that were found in the cache.", examples=[0])] = 0
    cache_write_tokens: Annotated[
        int, Meta(description="Always 0: nothing is paid for what is cached.", examples=[0])
    ] = 0


class ResponseOutputTokens(Struct, frozen=True):
    """Tokens of the answer that are no text of it."""

    reasoning_tokens: Annotated[int, Meta(description="Those of thoughts.", examples=[0])] = 0


class ResponseUsage(Struct, frozen=True):
    """Tokens."""

    input_tokens: Annotated[int, Meta(description="Tokens of the prompt.", examples=[5])]
    input_tokens_details: ResponseInputTokens
    output_tokens: Annotated[int, Meta(description="Tokens of the answer, thoughts included.", examples=[3])]
    output_tokens_details: ResponseOutputTokens
    total_tokens: Annotated[int, Meta(description="Both.", examples=[8])]


class ResponseFailure(Struct, frozen=True):
    """Why there is no whole answer."""

    code: Annotated[FailureCode, Meta(description="What went wrong, for programs.", examples=["server_error"])]
    message: Annotated[str, Meta(description="What went wrong, for people.", examples=["the engine failed"])]


class IncompleteDetails(Struct, frozen=True):
    """Why an answer is cut off."""

    reason: Annotated[
        Literal["max_output_tokens"],
        Meta(description="It ran out of tokens, or of time.", examples=["max_output_tokens"]),
    ] = "max_output_tokens"


class ConversationLink(Struct, frozen=True):
    """The conversation that an answer belongs to."""

    id: Annotated[str, Meta(description="Its id.", examples=["conv_01KDVXK0M4Q2E6S9ZB3H7TJN5R"])]


class ResponseObject(Struct, frozen=True, kw_only=True):
    """An answer: about to be made, under way, or whole."""

    id: Annotated[str, Meta(description="The request's id, marked.", examples=["resp_01KDVXK0M4Q2E6S9ZB3H7TJN5R"])]
    object: Annotated[Literal["response"], Meta(description="Always `response`.")] = "response"
    created_at: Annotated[int, Meta(description="When it was asked for, in seconds since 1970.", examples=[1767225600])]
    status: Annotated[ResponseStatus, Meta(description="How far it is, or how it ended.", examples=["completed"])]
    background: Annotated[bool, Meta(description="Whether it is made in the background.")] = False
    completed_at: Annotated[
        int | None, Meta(description="When it was completed, in seconds since 1970.", examples=[1767225601])
    ] = None
    conversation: Annotated[
        ConversationLink | None, Meta(description="The conversation that it belongs to.", examples=[None])
    ] = None
    error: Annotated[ResponseFailure | None, Meta(description="Why it failed.", examples=[None])] = None
    incomplete_details: Annotated[IncompleteDetails | None, Meta(description="Why it is cut off.", examples=[None])] = (
        None
    )
    instructions: Annotated[str | None, Meta(description="As they were asked.", examples=["Be brief."])] = None
    max_output_tokens: Annotated[int | None, Meta(description="As it was asked.", examples=[64])] = None
    max_tool_calls: Annotated[int | None, Meta(description="As it was asked.", examples=[None])] = None
    metadata: Annotated[dict[str, str], Meta(description="As it was asked.", examples=[{"batch": "7"}])] = {}
    model: Annotated[str, Meta(description="The model's own name.", examples=[MODEL])]
    output: Annotated[
        list[OutputItem],
        Meta(
            description="Thoughts, messages and calls, in the order of their beginning.",
            examples=[
                [{"type": "message", "id": "msg_1_0", "status": "completed", "content": [], "role": "assistant"}]
            ],
        ),
    ] = []
    parallel_tool_calls: Annotated[bool, Meta(description="As it was asked.")] = True
    previous_response_id: Annotated[str | None, Meta(description="As it was asked.", examples=[None])] = None
    prompt_cache_key: Annotated[str | None, Meta(description="As it was asked.", examples=[None])] = None
    reasoning: Annotated[
        dict[str, str | None], Meta(description="As it was asked.", examples=[{"effort": None, "summary": None}])
    ]
    safety_identifier: Annotated[str | None, Meta(description="As it was asked.", examples=[None])] = None
    service_tier: Annotated[Literal["default"], Meta(description="Always `default`.")] = "default"
    store: Annotated[bool, Meta(description="Whether it was to be stored.")] = True
    temperature: Annotated[float | None, Meta(description="As it was asked, else as the model has it.", examples=[1])]
    text: Annotated[
        dict[str, Any],
        Meta(description="As it was asked.", examples=[{"format": {"type": "text"}, "verbosity": "medium"}]),
    ]
    tool_choice: Annotated[Any, Meta(description="As it was asked.", examples=["auto"])] = "auto"
    tools: Annotated[list[Any], Meta(description="As they were asked.", examples=[[]])] = []
    top_logprobs: Annotated[int, Meta(description="As it was asked.", examples=[0])] = 0
    top_p: Annotated[float | None, Meta(description="As it was asked, else as the model has it.", examples=[1])]
    truncation: Annotated[Literal["auto", "disabled"], Meta(description="As it was asked.")] = "disabled"
    usage: Annotated[ResponseUsage | None, Meta(description="Tokens, once it has ended.", examples=[None])] = None
    user: Annotated[str | None, Meta(description="As it was asked.", examples=[None])] = None
    x_structured: StructuredAnswer = UNSET


class DeletedResponse(Struct, frozen=True):
    """A response that is no longer stored."""

    id: Annotated[str, Meta(description="Its id.", examples=["resp_01KDVXK0M4Q2E6S9ZB3H7TJN5R"])]
    object: Annotated[Literal["response"], Meta(description="Always `response`.")] = "response"
    deleted: Annotated[bool, Meta(description="Always true.")] = True


class InputTokenCount(Struct, frozen=True):
    """How many tokens a model would read."""

    input_tokens: Annotated[int, Meta(description="The tokens.", examples=[12])]
    object: Annotated[Literal["response.input_tokens"], Meta(description="Always `response.input_tokens`.")] = (
        "response.input_tokens"
    )


class StoredConversation(Struct, frozen=True, kw_only=True):
    """A conversation that responses may go on with; its items are listed by themselves."""

    id: Annotated[str, Meta(description="Its id.", examples=["conv_01KDVXK0M4Q2E6S9ZB3H7TJN5R"])]
    object: Annotated[Literal["conversation"], Meta(description="Always `conversation`.")] = "conversation"
    created_at: Annotated[int, Meta(description="When it was made, in seconds since 1970.", examples=[1767225600])]
    metadata: Annotated[dict[str, str], Meta(description="As it was given.", examples=[{"topic": "demo"}])] = {}


class DeletedConversation(Struct, frozen=True):
    """A conversation that is no longer stored."""

    id: Annotated[str, Meta(description="Its id.", examples=["conv_01KDVXK0M4Q2E6S9ZB3H7TJN5R"])]
    object: Annotated[Literal["conversation.deleted"], Meta(description="Always `conversation.deleted`.")] = (
        "conversation.deleted"
    )
    deleted: Annotated[bool, Meta(description="Always true.")] = True
