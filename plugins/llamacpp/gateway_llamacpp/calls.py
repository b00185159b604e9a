"""A call that must be made: the answer is held to it from its first token.

The chat endpoint's own grammar lets a model write as much as it likes before the call, and a small one never calls. So
the answer is asked for by ids and held to a schema, `{"name": …, "arguments": …}`, whatever the model's own form is.
"""

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct, structs

from gateway.engine import (
    Chat,
    Delta,
    EngineError,
    Finished,
    FinishReason,
    GenerateEvent,
    InvalidRequest,
    JsonSchema,
    Started,
    Tool,
    ToolDelta,
)
from gateway_llamacpp.constraints import nodes, to_grammar
from gateway_openai.messages import to_tools
from gateway_openai.profiles import PROFILES


class _WrittenCall(Struct, frozen=True):
    name: str
    arguments: dict[str, Any]


def must_call(chat: Chat) -> bool:
    """Tell whether the answer is to be a call."""
    return bool(chat.tools) and chat.tool_choice not in ("auto", "none")


def to_held_call(chat: Chat) -> dict[str, Any]:
    """Return the part of a body that holds an answer to a call; raise `InvalidRequest` for one without a grammar."""
    told = {tool["function"]["name"] for tool in to_tools(chat, PROFILES["llama-server"])["tools"]}
    tools = [tool for tool in chat.tools if tool.name in told]
    if not tools:
        raise InvalidRequest("there is no such tool to call", param="tool_choice")
    try:
        return to_grammar(JsonSchema({"anyOf": [_to_schema(tool) for tool in tools]}))
    except InvalidRequest as error:
        error.param = "tools"
        raise


class CallEvents:
    """Makes one call of an answer that is held to one. Its pieces are told together, once it is whole."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._tokens = 0

    def see(self, events: Sequence[GenerateEvent]) -> list[GenerateEvent]:
        """Return the events of a call for those of its text; raise `EngineError` for a text that is none."""
        found: list[GenerateEvent] = []
        for event in events:
            if isinstance(event, Delta):
                self._text.append(event.text)
                self._tokens += event.tokens
            elif isinstance(event, Finished):
                found += self._end(event)
            elif isinstance(event, Started):
                found.append(event)
        return found

    def _end(self, last: Finished) -> list[GenerateEvent]:
        if last.reason is FinishReason.LENGTH:
            return [Delta("", self._tokens), last]
        try:
            call = msgspec.json.decode("".join(self._text), type=_WrittenCall)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise EngineError("the model was held to a call, and wrote none") from error
        arguments = msgspec.json.encode(call.arguments).decode()
        made = ToolDelta(0, arguments, f"call_{secrets.token_hex(12)}", call.name, self._tokens)
        return [made, structs.replace(last, reason=FinishReason.TOOL_CALLS, stop=None)]


def _to_schema(tool: Tool) -> dict[str, Any]:
    """Return the schema of a call; the arguments of a tool that is not strict are any object."""
    arguments = tool.parameters if tool.strict and tool.parameters else {"type": "object"}
    if any("$ref" in node for node in nodes(arguments)):
        raise InvalidRequest("llama-server keeps no $ref in the arguments of a call that must be made")
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
