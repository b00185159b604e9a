"""Tools in OpenAI's dialect, also as functions, their older name: their shapes, and what they mean; pure."""

from typing import Annotated, Any, Literal, Protocol

from msgspec import Meta, Struct

from gateway.api.exchange.tools import ToolChoice, ToolPaths, check_tools, choose, choose_among, choose_one
from gateway.api.reference.fields import NoEffect, ToolName
from gateway.engine import InvalidRequest, Tool

_NAME = "get_weather"
_ARGUMENTS = '{"city": "Paris"}'
_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_PATHS = ToolPaths("tools[{}].function", "parameters")
_LEGACY_PATHS = ToolPaths("functions[{}]", "parameters")


class CalledFunction(Struct, frozen=True):
    """The name of a called function, and its arguments."""

    name: ToolName
    arguments: Annotated[str, Meta(description="JSON text, as the model wrote it.", examples=[_ARGUMENTS])]
    parsed_arguments: NoEffect = None


class FunctionCall(Struct, frozen=True):
    """A call that the model made."""

    id: Annotated[str, Meta(description="The call's id.", examples=["call_1"])]
    function: CalledFunction
    type: Annotated[Literal["function"], Meta(description="Always `function`.")] = "function"
    index: NoEffect = None


class ToolFunction(Struct, frozen=True):
    """A function that the model may call."""

    name: ToolName
    description: Annotated[str | None, Meta(description="What it does.", examples=["Tells the weather."])] = None
    parameters: Annotated[
        dict[str, Any] | None,
        Meta(description="The JSON Schema of its arguments, which are an object.", examples=[_PARAMETERS]),
    ] = None
    strict: Annotated[
        bool | None, Meta(description="Hold the arguments to the schema in every call. Left out: false.")
    ] = None


class FunctionTool(Struct, frozen=True):
    """A tool; functions are the only ones here."""

    function: ToolFunction
    type: Annotated[Literal["function"], Meta(description="Always `function`.")] = "function"
    cache_control: NoEffect = None


class ChosenFunction(Struct, frozen=True):
    """The function to call."""

    name: ToolName


class AllowedTool(Struct, frozen=True):
    """One tool among several."""

    function: ChosenFunction
    type: Annotated[Literal["function"], Meta(description="Always `function`.")] = "function"


class AllowedTools(Struct, frozen=True):
    """The tools that may be called; the model is told of all."""

    mode: Annotated[
        Literal["auto", "required"], Meta(description="As the model likes, or one at least.", examples=["auto"])
    ]
    tools: Annotated[
        Annotated[tuple[AllowedTool, ...], Meta(min_length=1, max_length=128)],
        Meta(description="Their names.", examples=[[{"type": "function", "function": {"name": _NAME}}]]),
    ]


class ChosenTool(Struct, frozen=True):
    """The one tool to call, or those that may be called."""

    type: Annotated[
        Literal["function", "allowed_tools"], Meta(description="Which of the two.", examples=["function"])
    ] = "function"
    function: Annotated[ChosenFunction | None, Meta(description="The one to call.", examples=[{"name": _NAME}])] = None
    allowed_tools: Annotated[
        AllowedTools | None,
        Meta(
            description="Those that may be called.",
            examples=[{"mode": "auto", "tools": [{"type": "function", "function": {"name": _NAME}}]}],
        ),
    ] = None


Tools = Annotated[
    Annotated[tuple[FunctionTool, ...], Meta(max_length=128)] | None,
    Meta(
        description="Functions that the model may call. Left out: none.",
        examples=[[{"type": "function", "function": {"name": _NAME, "parameters": _PARAMETERS}}]],
    ),
]
ToolMode = Annotated[
    Literal["none", "auto", "required"] | ChosenTool | None,
    Meta(description="Whether to call a tool, and which. Left out: `auto`.", examples=["auto"]),
]
ParallelCalls = Annotated[bool | None, Meta(description="Whether one answer may make several calls. Left out: true.")]
LegacyFunctions = Annotated[
    Annotated[tuple[ToolFunction, ...], Meta(max_length=128)] | None,
    Meta(
        description="The older word for `tools`: an answer makes one call at most, and says it as `function_call`. Left"
        " out: that one.",
        examples=[[{"name": _NAME, "parameters": _PARAMETERS}]],
    ),
]
LegacyMode = Annotated[
    Literal["none", "auto"] | ChosenFunction | None,
    Meta(description="The older word for `tool_choice`; goes with `functions`. Left out: `auto`.", examples=["auto"]),
]


class ToolFields(Protocol):
    """The fields of a body that are about tools."""

    @property
    def tools(self) -> tuple[FunctionTool, ...] | None:
        """The tools."""
        ...

    @property
    def tool_choice(self) -> Literal["none", "auto", "required"] | ChosenTool | None:
        """The choice among them."""
        ...

    @property
    def functions(self) -> tuple[ToolFunction, ...] | None:
        """The tools, by their older name."""
        ...

    @property
    def function_call(self) -> Literal["none", "auto"] | ChosenFunction | None:
        """The choice among those."""
        ...


def has_functions(body: ToolFields) -> bool:
    """Tell whether a body says functions and not tools, so that its answer does, too."""
    return bool(body.functions)


def to_tools(body: ToolFields) -> tuple[Tool, ...]:
    """Make the tools; raise `InvalidRequest` with the path of one that is none."""
    if body.functions and body.tools:
        raise InvalidRequest("functions are an older word for tools; give one of them", param="functions")
    functions = body.functions or tuple(tool.function for tool in body.tools or ())
    tools = tuple(
        Tool(each.name, each.description or "", each.parameters or {}, bool(each.strict)) for each in functions
    )
    check_tools(tools, *((_LEGACY_PATHS, "functions") if body.functions else (_PATHS, "tools")))
    return tools


def to_choice(body: ToolFields, tools: tuple[Tool, ...]) -> ToolChoice:
    """Make the choice among the tools; raise `InvalidRequest` for one that is not there."""
    if body.function_call is not None and body.function_call != "none" and not body.functions:
        raise InvalidRequest("function_call goes with functions", param="function_call")
    if body.tool_choice not in (None, "none", "auto") and body.functions:
        raise InvalidRequest("tool_choice goes with tools; with functions it is function_call", param="tool_choice")
    if isinstance(body.function_call, ChosenFunction):
        return choose_one(body.function_call.name, tools, "function_call.name")
    choice = body.function_call if body.functions else body.tool_choice
    if not isinstance(choice, ChosenTool):
        return choose(choice or "auto", tools)
    if choice.type == "function":
        if choice.function is None:
            raise InvalidRequest("this field is required", param="tool_choice.function")
        return choose_one(choice.function.name, tools, "tool_choice.function.name")
    if choice.allowed_tools is None:
        raise InvalidRequest("this field is required", param="tool_choice.allowed_tools")
    names = [each.function.name for each in choice.allowed_tools.tools]
    params = [f"tool_choice.allowed_tools.tools[{number}].function.name" for number in range(len(names))]
    return choose_among(names, choice.allowed_tools.mode, tools, params)
