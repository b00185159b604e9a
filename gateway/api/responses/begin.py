"""The response before anything of it is made, with the parameters as they were asked."""

import time

import msgspec
from ulid import ULID

from gateway.api.responses.reply import ConversationLink, ResponseObject
from gateway.api.responses.schema import PromptBody, ResponsesBody
from gateway.engine import ModelCard

# The kind of stored responses.
RESPONSE = "response"
_USUAL = 1.0


def to_response(body: ResponsesBody, card: ModelCard, request_id: str) -> ResponseObject:
    """Begin the response to a body."""
    reasoning, text = body.reasoning, body.text
    verbosity = None if text is None else text.verbosity
    conversation = conversation_id(body)
    return ResponseObject(
        id=to_id(request_id),
        created_at=_created(request_id),
        status="queued" if body.background else "in_progress",
        background=bool(body.background),
        conversation=None if conversation is None else ConversationLink(conversation),
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        max_tool_calls=body.max_tool_calls,
        metadata=body.metadata or {},
        model=card.name,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        previous_response_id=body.previous_response_id,
        prompt_cache_key=body.prompt_cache_key,
        reasoning={
            "effort": None if reasoning is None else reasoning.effort,
            "summary": None if reasoning is None else reasoning.summary,
        },
        safety_identifier=body.safety_identifier,
        store=body.store is not False,
        temperature=_value(body.temperature, card.defaults.temperature),
        text={
            "format": _said(None if text is None else text.format) or {"type": "text"},
            "verbosity": verbosity or "medium",
        },
        tool_choice=_said(body.tool_choice) or "auto",
        tools=[{"parameters": None, "strict": None, **_dict(tool)} for tool in body.tools or ()],
        top_logprobs=body.top_logprobs or 0,
        top_p=_value(body.top_p, card.defaults.top_p),
        truncation=body.truncation or "disabled",
        user=body.user,
    )


def to_id(request_id: str) -> str:
    """Return the id of the response to a request."""
    return f"resp_{request_id}"


def conversation_id(body: PromptBody) -> str | None:
    """Return the id of the conversation that a body goes on with."""
    named = body.conversation
    return named if named is None or isinstance(named, str) else named.id


def _created(request_id: str) -> int:
    """Return the moment of a request, which its id holds: the same one however often its response is begun."""
    try:
        return int(ULID.from_str(request_id).timestamp)
    except ValueError:
        return int(time.time())


def _value(asked: float | None, usual: float | None) -> float:
    return next(value for value in (asked, usual, _USUAL) if value is not None)


def _dict(value: object) -> dict[str, object]:
    return {name: item for name, item in dict(msgspec.to_builtins(value)).items() if item is not None}


def _said(value: object) -> object:
    """Return a parameter as it was sent, without what was left out."""
    return value if value is None or isinstance(value, str) else _dict(value)
