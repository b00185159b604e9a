"""Tools in Anthropic's dialect: their shapes, and what they mean; pure."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gateway.api.anthropic.blocks import CacheControl
from gateway.api.exchange.tools import ToolChoice, ToolPaths, check_tools, choose, choose_one
from gateway.api.reference.fields import Elsewhere, NoEffect, ToolName
from gateway.engine import InvalidRequest, Tool, Unsupported

_PATHS = ToolPaths("tools[{}]", "input_schema")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class ToolParam(Struct, frozen=True):
    """A function that the model may call."""

    name: ToolName
    input_schema: Annotated[
        dict[str, Any] | None,
        Meta(
            description="The JSON Schema of what it is called with, an object; required.",
            examples=[{"type": "object"}],
        ),
    ] = None
    description: Annotated[str, Meta(description="What it does.", examples=["Tells the weather of a city."])] = ""
    type: Annotated[
        str | None,
        Meta(description="`custom`, or left out; tools that run on a server are refused.", examples=["custom"]),
    ] = None
    strict: Annotated[bool, Meta(description="Hold the input to the schema in every call.")] = False
    cache_control: CacheControl = None
    allowed_callers: Elsewhere = None
    defer_loading: Elsewhere = None
    eager_input_streaming: NoEffect = None
    input_examples: NoEffect = None


class ToolChoiceParam(Struct, frozen=True):
    """Whether to call a tool, and which."""

    type: Annotated[
        Literal["auto", "any", "tool", "none"],
        Meta(description="As the model likes, any of them, the named one, or none.", examples=["auto"]),
    ]
    name: Annotated[str | None, Meta(description="The tool to call.", examples=["get_weather"])] = None
    disable_parallel_tool_use: Annotated[bool, Meta(description="One call in an answer at most.")] = False


def to_tools(params: tuple[ToolParam, ...] | None) -> tuple[Tool, ...]:
    """Make the tools; raise `InvalidRequest` or `Unsupported` with the path of one that cannot be called here."""
    tools = tuple(_to_tool(tool, f"tools[{number}]") for number, tool in enumerate(params or ()))
    check_tools(tools, _PATHS)
    return tools


def to_choice(choice: ToolChoiceParam | None, tools: tuple[Tool, ...]) -> ToolChoice:
    """Make the choice among the tools; raise `InvalidRequest` for one that is not there."""
    if choice is None:
        return ToolChoice()
    if choice.type == "tool":
        return choose_one(choice.name, tools, "tool_choice.name")
    return choose(_CHOICES[choice.type], tools)


def _to_tool(tool: ToolParam, path: str) -> Tool:
    if tool.type not in (None, "custom"):
        raise Unsupported(f"there are no tools of the server's own here, as {tool.type!r:.80}", param=f"{path}.type")
    if tool.allowed_callers not in (None, ["direct"]):
        raise Unsupported("tools are called by the model only", param=f"{path}.allowed_callers")
    if tool.defer_loading:
        raise Unsupported("tools are not searched for here", param=f"{path}.defer_loading")
    if tool.input_schema is None:
        raise InvalidRequest("this field is required", param=f"{path}.input_schema")
    return Tool(tool.name, tool.description, tool.input_schema, tool.strict)
