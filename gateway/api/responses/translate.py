"""From a body of `/v1/responses` to the engine's request; pure."""

from gateway.api.exchange.asked import Asking, Prompts, greedy_at_zero
from gateway.api.exchange.constraint import schema_of
from gateway.api.exchange.thinking import wish_effort
from gateway.api.exchange.tools import ToolChoice, ToolPaths, check_tools, choose, choose_among, choose_one
from gateway.api.responses.conversation import check_calls, to_messages
from gateway.api.responses.items import InputItem
from gateway.api.responses.parameters import NEEDS, SCORES, refuse
from gateway.api.responses.schema import FunctionChoice, FunctionDefinition, PromptBody, ResponsesBody, TextFormat
from gateway.api.responses.truncation import shorten
from gateway.engine import (
    Capability,
    Chat,
    Constraint,
    ContextTooLong,
    EngineError,
    GenerateRequest,
    InvalidRequest,
    JsonObject,
    Message,
    Sampling,
    Text,
    Tool,
    Unsupported,
)

_TOO_LONG = "your input exceeds the context window of this model"
_SCHEMA = "text.format.schema"
_TOOL_PATHS = ToolPaths("tools[{}]", "parameters")
_PROMPTS = frozenset({"prompt", "chat", "completion", "messages"})


def to_prompts(body: ResponsesBody, asking: Asking) -> Prompts:
    """Translate; raise `InvalidRequest` for fields that contradict each other or are not supported."""
    prompt = to_prompt(body, asking.past)
    if body.background and body.store is False:
        raise InvalidRequest("an answer in the background has to be stored", param="background")
    sampling = Sampling(
        max_tokens=body.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        logprobs=(body.top_logprobs or 0) if body.top_logprobs or SCORES in (body.include or ()) else None,
    )
    return Prompts(
        (
            GenerateRequest(
                id=asking.request_id,
                model=body.model or asking.card.name,
                prompt=prompt,
                sampling=greedy_at_zero(sampling),
                constraint=_to_constraint(body),
                priority=asking.priority,
            ),
        ),
        shorten=shorten if body.truncation == "auto" else None,
    )


def to_prompt(body: PromptBody, past: tuple[Message, ...]) -> Chat:
    """Make the conversation: the instructions, what was said before, and the input."""
    refuse(body)
    check_origin(body)
    before = (Message("system", (Text(body.instructions),)),) if body.instructions else ()
    messages = (*before, *past, *to_messages(to_items(body.input)))
    check_calls(messages, "input")
    if not any(message.role != "system" for message in messages) and body.input is None:
        raise InvalidRequest("this field is required", param="input")
    if not messages:  # no items, or nothing but thoughts
        raise InvalidRequest("the input says nothing", param="input")
    tools = tuple(_to_tool(tool, f"tools[{number}]") for number, tool in enumerate(body.tools or ()))
    check_tools(tools, _TOOL_PATHS)
    chosen = _to_choice(body.tool_choice, tools)
    effort = None if body.reasoning is None else body.reasoning.effort
    wish = None if effort is None else wish_effort("reasoning.effort", effort)
    return Chat(
        messages,
        tools,
        chosen.choice,
        allowed_tools=chosen.allowed,
        parallel_tool_calls=not (tools and chosen.choice != "none" and body.parallel_tool_calls is False),
        reasoning=None if wish is None else wish.reasoning,
        reasoning_effort=None if wish is None else wish.effort,
    )


def check_origin(body: PromptBody) -> None:
    """Raise `InvalidRequest` for an input that goes on from two things at once."""
    if body.conversation is not None and body.previous_response_id is not None:
        raise InvalidRequest("conversation does not go with previous_response_id", param="conversation")


def to_items(content: str | tuple[InputItem, ...] | None) -> tuple[InputItem, ...]:
    """Return the items of an input; a text is a message of the user."""
    if isinstance(content, str):
        return (InputItem(role="user", content=content),)
    return content or ()


def reword(error: EngineError, body: PromptBody) -> None:
    """Say in this dialect's words, not in the engine's, which field an error is about."""
    param = error.param
    if isinstance(error, ContextTooLong):
        error.message = f"{_TOO_LONG}: {error.message}"
        param = param or "input"
    if param == Capability.MAX_TOKENS:
        error.message = error.message.replace("max_tokens", "max_output_tokens")
        param = "max_output_tokens"
    elif param == Capability.TOOLS:
        param = "tools" if body.tools else "input"
    elif param == Capability.LOGPROBS:
        param = "top_logprobs" if isinstance(body, ResponsesBody) and body.top_logprobs else "include"
    elif param == Capability.JSON_OBJECT:
        param = "text.format"
    elif param == Capability.JSON_SCHEMA:
        param = "text.format" if isinstance(error, Unsupported) else _SCHEMA
    elif isinstance(error, Unsupported):
        param = next((path for path, need in NEEDS.items() if need == param), param)
    error.param = "input" if param in _PROMPTS else param


def _to_tool(tool: FunctionDefinition, path: str) -> Tool:
    if tool.type != "function":
        raise Unsupported(f"tools of the type {tool.type[:60]!r} are not supported here", param=f"{path}.type")
    if tool.name is None:
        raise InvalidRequest("this field is required", param=f"{path}.name")
    if tool.allowed_callers not in (None, ["direct"]):
        raise Unsupported("functions are called by the model only", param=f"{path}.allowed_callers")
    if tool.defer_loading:
        raise Unsupported("tools are not searched for here", param=f"{path}.defer_loading")
    if tool.is_async:
        raise Unsupported("the result of a call is waited for here", param=f"{path}.async")
    return Tool(tool.name, tool.description or "", tool.parameters or {}, strict=bool(tool.strict))


def _to_choice(choice: str | FunctionChoice | None, tools: tuple[Tool, ...]) -> ToolChoice:
    if choice is None or isinstance(choice, str):
        return choose(choice or "auto", tools)
    if choice.type == "function":
        return choose_one(choice.name, tools, "tool_choice.name")
    if choice.type != "allowed_tools":
        raise Unsupported(f"{choice.type[:60]!r} cannot be chosen here", param="tool_choice.type")
    names = [str(tool.get("name")) for tool in choice.tools or ()]
    params = [f"tool_choice.tools[{number}]" for number in range(len(names))]
    return choose_among(names, choice.mode or "auto", tools, params)


def _to_constraint(body: ResponsesBody) -> Constraint | None:
    wanted: TextFormat | None = None if body.text is None else body.text.format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return JsonObject()
    if wanted.schema is None:
        raise InvalidRequest("this field is required", param=_SCHEMA)
    return schema_of(wanted.schema, _SCHEMA)
