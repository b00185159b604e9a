"""Functions that a model may call: what they are, a call, and what came of it."""

from typing import Any

from msgspec import Struct


class Tool(Struct, frozen=True, forbid_unknown_fields=True):
    """A function that the model may call; `parameters` is a JSON Schema.

    The arguments of a `strict` one are what its schema accepts, always; others may be as the model writes them, but
    are JSON.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool = False


class ToolCall(Struct, frozen=True, tag="tool_call", forbid_unknown_fields=True):
    """A call that the assistant made; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class ToolResult(Struct, frozen=True, tag="tool_result", forbid_unknown_fields=True):
    """What the tool answered to the call named `id`."""

    id: str
    text: str
