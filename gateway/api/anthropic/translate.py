"""From a `/v1/messages` body to the engine's request; pure."""

from collections.abc import Iterator
from itertools import groupby

import msgspec

from gateway.api.anthropic.schema import (
    Base64Source,
    Block,
    CountBody,
    ImageBlock,
    MessageParam,
    MessagesBody,
    TextBlock,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
)
from gateway.engine import (
    Chat,
    Constraint,
    GenerateRequest,
    Image,
    InvalidRequest,
    JsonSchema,
    Message,
    ModelCard,
    Part,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Unsupported,
)

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}

# A tool's result has no field for it.
_FAILED = "Error: "


def to_request(body: MessagesBody, card: ModelCard, request_id: str, priority: int = 0) -> GenerateRequest:
    """Translate; raise `InvalidRequest` where the fields contradict each other or ask for what nobody here can do."""
    return GenerateRequest(
        id=request_id,
        model=body.model or card.name,
        prompt=to_prompt(body),
        sampling=Sampling(
            max_tokens=body.max_tokens,
            temperature=body.temperature,
            top_p=body.top_p,
            top_k=body.top_k,
            stop=body.stop_sequences or None,
        ),
        constraint=_to_constraint(body),
        priority=priority,
    )


def to_prompt(body: CountBody) -> Chat:
    """Make the conversation of a body."""
    if body.thinking is not None and body.thinking.type != "disabled":
        raise Unsupported("thinking cannot be turned on here", param="thinking")
    if body.messages[-1].role == "assistant":
        raise Unsupported(
            "the last message must be the user's: an answer cannot be begun for the model", param="messages"
        )
    turns = [Message("system", _to_texts(body.system))] if body.system else []
    for number, message in enumerate(body.messages):
        turns += _to_messages(message, f"messages[{number}]")
    tools = tuple(Tool(tool.name, tool.description, tool.input_schema) for tool in body.tools)
    return Chat(tuple(turns), tools, _to_choice(body.tool_choice, tools))


def _to_texts(content: str | tuple[TextBlock, ...]) -> tuple[Part, ...]:
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
    for is_result, run in groupby(parts, lambda part: isinstance(part, ToolResult)):
        if is_result and message.role != "user":
            raise InvalidRequest("a tool_result belongs into a user's message", param=path)
        yield Message("tool" if is_result else message.role, tuple(run))


def _to_parts(block: Block, path: str) -> Iterator[Part]:
    """Yield the part that a block says; what the model thought in earlier turns is not shown to it again."""
    match block:
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


def _to_choice(choice: ToolChoice | None, tools: tuple[Tool, ...]) -> str:
    if choice is None:
        return "auto"
    if choice.disable_parallel_tool_use:
        raise Unsupported("parallel calls cannot be turned off", param="tool_choice.disable_parallel_tool_use")
    if choice.type == "tool":
        if choice.name not in {tool.name for tool in tools}:
            raise InvalidRequest(f"there is no tool {choice.name!r} among tools", param="tool_choice.name")
        return str(choice.name)
    if choice.type == "any" and not tools:
        raise InvalidRequest("there are no tools to choose from", param="tool_choice")
    return _CHOICES[choice.type]


def _to_constraint(body: MessagesBody) -> Constraint | None:
    config = body.output_config
    if config is None:
        return None
    if config.effort is not None:
        raise Unsupported("the effort of a model cannot be set here", param="output_config.effort")
    return None if config.format is None else JsonSchema(config.format.schema)
