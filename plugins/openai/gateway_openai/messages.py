"""Conversations in OpenAI's words: messages with their parts, tools and the choice among them."""

from base64 import b64encode
from typing import Any

from msgspec import structs

from gateway.engine import Chat, Image, Message, Text, Thought, Tool, ToolCall, ToolResult, Unsupported
from gateway_openai.profiles import Profile


def to_messages(chat: Chat, profile: Profile) -> list[dict[str, Any]]:
    """Write the messages; the result of a call is one of its own."""
    return [written for message in chat.messages for written in _to_messages(message, profile)]


def to_tools(chat: Chat, profile: Profile) -> dict[str, Any]:
    """Write the tools and the choice among them; raise `Unsupported` for a choice that the server would drop."""
    if not chat.tools:
        return {}
    named = chat.tool_choice not in ("auto", "none", "required")
    if named and "function" not in profile.tool_choices and "required" in profile.tool_choices:
        # Where there is but one tool, to call one is to call that.
        chat, named = _alone(chat), False
    if ("function" if named else chat.tool_choice) not in profile.tool_choices:
        raise Unsupported("the server behind this model is not told which tool to call", param="tool_choice")
    if any(tool.strict for tool in chat.tools) and not profile.strict_tools:
        raise Unsupported("the server behind this model does not hold calls to a schema", param="tools")
    tools, choice = chat.tools, _to_choice(chat, named=named)
    if chat.allowed_tools and not named:
        if profile.allowed_tools and chat.tool_choice != "none":
            allowed = [_named(name) for name in chat.allowed_tools]
            choice = {"type": "allowed_tools", "allowed_tools": {"mode": chat.tool_choice, "tools": allowed}}
        else:
            tools = tuple(tool for tool in tools if tool.name in chat.allowed_tools)
    asked: dict[str, Any] = {"tools": [_to_tool(tool) for tool in tools], "tool_choice": choice}
    return asked if chat.parallel_tool_calls else asked | {"parallel_tool_calls": False}


def _alone(chat: Chat) -> Chat:
    tools = tuple(tool for tool in chat.tools if tool.name == chat.tool_choice)
    return structs.replace(chat, tools=tools, tool_choice="required", allowed_tools=())


def _to_messages(message: Message, profile: Profile) -> list[dict[str, Any]]:
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    written: list[dict[str, Any]] = [
        {"role": "tool", "tool_call_id": result.id, "content": result.text} for result in results
    ]
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    if len(results) == len(message.parts) and results:
        return written
    said: dict[str, Any] = {"role": message.role, "content": _to_content(message)}
    if calls:
        said["content"] = said["content"] or None
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    thoughts = "".join(part.text for part in message.parts if isinstance(part, Thought))
    if thoughts and profile.thoughts:
        said["reasoning_content"] = thoughts
    return [*written, said]


def _to_content(message: Message) -> str | list[dict[str, Any]]:
    """Write a text as one, and texts between images as parts."""
    if not any(isinstance(part, Image) for part in message.parts):
        return message.text
    parts: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, Text):
            parts.append({"type": "text", "text": part.text})
        elif isinstance(part, Image):
            url = f"data:{part.media_type};base64,{b64encode(part.data).decode()}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts


def _to_tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function | ({"strict": True} if tool.strict else {})}


def _to_choice(chat: Chat, *, named: bool) -> str | dict[str, Any]:
    return _named(chat.tool_choice) if named else chat.tool_choice


def _named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}
