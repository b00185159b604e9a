"""From a `/v1/messages` body to the engine's request; pure."""

from collections.abc import Iterable, Iterator
from itertools import groupby

import msgspec

from gateway.api.anthropic.blocks import (
    Base64Source,
    Block,
    ImageBlock,
    MessageParam,
    SystemBlock,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from gateway.api.anthropic.parameters import NEEDS, refuse
from gateway.api.anthropic.schema import CountBody, MessagesBody, ToolChoiceParam, ToolParam
from gateway.api.exchange.asked import Asking, Prompts, greedy_at_zero
from gateway.api.exchange.constraint import schema_of
from gateway.engine import (
    Capability,
    Chat,
    Constraint,
    ContextTooLong,
    EngineError,
    GenerateRequest,
    Image,
    InvalidRequest,
    Message,
    Part,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Unsupported,
)

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}

# What Anthropic's own messages begin with; clients look for it.
_TOO_LONG = "prompt is too long"

# A tool's result has no field for it.
_FAILED = "Error: "


def to_prompts(body: MessagesBody, asking: Asking) -> Prompts:
    """Translate; raise `InvalidRequest` where the fields contradict each other or ask for what is not supported."""
    return Prompts((to_request(body, asking.request_id, asking.priority),))


def to_request(body: MessagesBody, request_id: str, priority: int = 0) -> GenerateRequest:
    """Translate; raise `InvalidRequest` for fields that contradict each other or are not supported."""
    return GenerateRequest(
        id=request_id,
        model=body.model,
        prompt=to_prompt(body),
        sampling=greedy_at_zero(
            Sampling(
                max_tokens=body.max_tokens,
                temperature=body.temperature,
                top_p=body.top_p,
                top_k=body.top_k,
                stop=body.stop_sequences or None,
            )
        ),
        constraint=_to_constraint(body),
        priority=priority,
    )


def to_prompt(body: CountBody) -> Chat:
    """Make the conversation of a body; where its last turn is the assistant's, the answer goes on with it."""
    refuse(body)
    turns = [Message("system", _to_texts(body.system))] if body.system else []
    for number, message in enumerate(body.messages):
        turns += _to_messages(message, f"messages[{number}]")
    turns = list(_joined(turns))
    goes_on = body.messages[-1].role == "assistant"
    if goes_on:
        _check_beginning(turns[-1:])
    tools = tuple(_to_tool(tool, f"tools[{number}]") for number, tool in enumerate(body.tools or ()))
    return Chat(tuple(turns), tools, _to_choice(body.tool_choice, tools), continue_final=goes_on)


def reword(error: EngineError, body: CountBody) -> None:
    """Say in this dialect's words, not in the engine's, which field an error is about."""
    if isinstance(error, ContextTooLong):
        what = "input length and `max_tokens` exceed context limit" if error.param == "max_tokens" else _TOO_LONG
        error.message = f"{what}: {error.message}"
        error.param = error.param or "messages"
    elif error.param == Capability.VISION:
        error.param = _image_path(body)
    elif error.param == Capability.JSON_SCHEMA:
        word = _format_path(body)
        error.param = word if isinstance(error, Unsupported) else f"{word}.schema"
    elif isinstance(error, Unsupported):
        path = next((path for path, need in NEEDS.items() if need == error.param), error.param)
        error.param = "messages" if path in ("messages.prefill", "token_count") else path
    if error.param in ("prompt", "chat"):
        error.param = "messages"


def _image_path(body: CountBody) -> str:
    """Find the first image."""
    for number, message in enumerate(body.messages):
        for place, block in enumerate(message.content):
            if isinstance(block, ImageBlock):
                return f"messages[{number}].content[{place}]"
    return "messages"


def _joined(turns: Iterable[Message]) -> Iterator[Message]:
    """Make one turn of those of one role in a row."""
    for _, run in groupby(turns, lambda turn: turn.role):
        same = list(run)
        yield Message(same[0].role, tuple(part for turn in same for part in turn.parts))


def _check_beginning(last: list[Message]) -> None:
    """Refuse a beginning of an answer that no model could go on with."""
    part = last[0].parts[-1] if last and last[0].role == "assistant" and last[0].parts else None
    if not isinstance(part, Text) or not part.text:
        raise InvalidRequest("messages: the final assistant content has to end in text", param="messages")
    if part.text != part.text.rstrip():
        raise InvalidRequest("messages: final assistant content cannot end with trailing whitespace", param="messages")


def _to_tool(tool: ToolParam, path: str) -> Tool:
    if tool.type not in (None, "custom"):
        raise Unsupported("there are no tools of the server's own here", param=f"{path}.type")
    if tool.strict:
        raise Unsupported("calls are not held to their schema here", param=f"{path}.strict")
    if tool.allowed_callers not in (None, ["direct"]):
        raise Unsupported("tools are called by the model only", param=f"{path}.allowed_callers")
    if tool.defer_loading:
        raise Unsupported("tools are not searched for here", param=f"{path}.defer_loading")
    if tool.input_schema is None:
        raise InvalidRequest("this field is required", param=f"{path}.input_schema")
    return Tool(tool.name, tool.description, tool.input_schema)


def _to_texts(content: str | tuple[SystemBlock, ...]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),)
    return tuple(Text(block.text) for block in content)


def _to_messages(message: MessageParam, path: str) -> Iterator[Message]:
    """Yield a turn; the results of tools, which come inside a user's turn here, are turns of their own."""
    if isinstance(message.content, str):
        yield Message(message.role, (Text(message.content),))
        return
    parts = [
        part for number, block in enumerate(message.content) for part in _to_parts(block, f"{path}.content[{number}]")
    ]
    if not parts:
        raise InvalidRequest("this message says nothing; a thought alone is not shown again", param=f"{path}.content")
    for is_result, run in groupby(parts, lambda part: isinstance(part, ToolResult)):
        if is_result and message.role != "user":
            raise InvalidRequest("a tool_result belongs into a user's message", param=path)
        yield Message("tool" if is_result else message.role, tuple(run))


def _to_parts(block: Block, path: str) -> Iterator[Part]:
    """Yield the part that a block says; what the model thought in earlier turns is not shown to it again."""
    match block:
        case ImageBlock(transformations=asked) if asked:
            raise Unsupported("images are not transformed here", param=f"{path}.transformations")
        case TextBlock():
            yield Text(block.text)
        case ImageBlock(source=Base64Source(media_type=media_type, data=data)):
            yield Image(data, media_type)
        case ImageBlock():
            raise Unsupported("send the image itself (base64): nothing is fetched here", param=f"{path}.source")
        case ToolUseBlock():
            yield ToolCall(block.id, block.name, msgspec.json.encode(block.input).decode())
        case ToolResultBlock():
            yield ToolResult(block.tool_use_id, _to_result(block, path))
        case _:
            pass


def _to_result(block: ToolResultBlock, path: str) -> str:
    content = (TextBlock(block.content),) if isinstance(block.content, str) else block.content
    if not all(isinstance(part, TextBlock) for part in content):
        raise Unsupported("the result of a tool can only be text here", param=f"{path}.content")
    text = "".join(part.text for part in content if isinstance(part, TextBlock))
    return _FAILED + text if block.is_error else text


def _to_choice(choice: ToolChoiceParam | None, tools: tuple[Tool, ...]) -> str:
    if choice is None:
        return "auto"
    if choice.type == "tool":
        if choice.name not in {tool.name for tool in tools}:
            raise InvalidRequest(f"there is no tool {choice.name!r} among tools", param="tool_choice.name")
        return str(choice.name)
    if choice.type == "any" and not tools:
        raise InvalidRequest("there are no tools to choose from", param="tool_choice")
    return _CHOICES[choice.type]


def _to_constraint(body: MessagesBody) -> Constraint | None:
    asked = body.output_config and body.output_config.format
    if asked and body.output_format and asked != body.output_format:
        raise InvalidRequest("give output_config.format or output_format, not both", param="output_format")
    wanted = asked or body.output_format
    return None if wanted is None else schema_of(wanted.schema, f"{_format_path(body)}.schema")


def _format_path(body: CountBody) -> str:
    """Name the field that asks for a shape of the answer."""
    config = body.output_config
    return "output_format" if config is None or config.format is None else "output_config.format"
