"""From a `/v1/messages` body to the engine's request; pure."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from types import UnionType

import msgspec

from gateway.api.anthropic.blocks import (
    Base64Source,
    Block,
    ImageBlock,
    MessageParam,
    SystemBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from gateway.api.anthropic.parameters import NEEDS, refuse
from gateway.api.anthropic.schema import CountBody, MessagesBody
from gateway.api.anthropic.thinking import Thinking, check_signature, to_thinking, wishes
from gateway.api.anthropic.tools import to_choice, to_tools
from gateway.api.exchange.asked import Asking, Prompts, greedy_at_zero
from gateway.api.exchange.constraint import schema_of
from gateway.api.exchange.thinking import EffortWord
from gateway.api.exchange.tools import PendingCalls
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
    Thought,
    ToolCall,
    ToolResult,
    Unsupported,
)

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
    turns, pending = [Message("system", _to_texts(body.system))] if body.system else [], PendingCalls()
    for number, message in enumerate(body.messages):
        turns += _to_messages(message, f"messages[{number}]", pending)
    turns = list(_joined(turns))
    goes_on = body.messages[-1].role == "assistant"
    if goes_on:
        _check_beginning(turns[-1:])
    tools = to_tools(body.tools)
    choice = to_choice(body.tool_choice, tools)
    wish = to_thinking(*_thinking(body), body.max_tokens if isinstance(body, MessagesBody) else None)
    is_single = body.tool_choice is not None and body.tool_choice.disable_parallel_tool_use
    return Chat(
        tuple(turns),
        tools,
        choice.choice,
        continue_final=goes_on,
        allowed_tools=choice.allowed,
        parallel_tool_calls=not (is_single and tools and choice.choice != "none"),
        reasoning=wish.reasoning,
        reasoning_effort=wish.effort,
        reasoning_budget=wish.budget,
    )


def reword(error: EngineError, body: CountBody) -> None:
    """Say in this dialect's words, not in the engine's, which field an error is about."""
    if isinstance(error, ContextTooLong):
        what = "input length and `max_tokens` exceed context limit" if error.param == "max_tokens" else _TOO_LONG
        error.message = f"{what}: {error.message}"
        error.param = error.param or "messages"
    elif error.param == Capability.VISION:
        error.param = _path(body, ImageBlock)
    elif error.param == Capability.JSON_SCHEMA:
        word = _format_path(body)
        error.param = word if isinstance(error, Unsupported) else f"{word}.schema"
    elif error.param == Capability.TOOLS and not body.tools:
        error.param = _path(body, ToolUseBlock | ToolResultBlock)
    elif wish := next((wish for wish in wishes(*_thinking(body)) if wish.asks_for(error.param or "")), None):
        error.param = wish.param
    elif isinstance(error, Unsupported):
        path = next((path for path, need in NEEDS.items() if need == error.param), error.param)
        error.param = "messages" if path in ("messages.prefill", "token_count") else path
    if error.param in ("prompt", "chat"):
        error.param = "messages"


def _thinking(body: CountBody) -> tuple[Thinking | None, EffortWord | None]:
    """Return both words for thinking."""
    return body.thinking, None if body.output_config is None else body.output_config.effort


def _path(body: CountBody, kind: type[Block] | UnionType) -> str:
    """Find the first block of a kind."""
    for number, message in enumerate(body.messages):
        for place, block in enumerate(message.content):
            if isinstance(block, kind):
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


def _to_texts(content: str | tuple[SystemBlock, ...]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),)
    return tuple(Text(block.text) for block in content)


def _to_messages(message: MessageParam, path: str, pending: PendingCalls) -> Iterator[Message]:
    """Yield a turn; the results of tools, which come inside a user's turn here, are turns of their own."""
    if isinstance(message.content, str):
        pending.close(path)
        yield Message(message.role, (Text(message.content),))
        return
    parts: list[Part] = []
    for number, block in enumerate(message.content):
        place = f"{path}.content[{number}]"
        _see(block, place, pending, message.role)
        parts += _to_parts(block, place)
    if all(isinstance(part, Thought) for part in parts):
        raise InvalidRequest("this message says nothing; a thought alone is no answer", param=f"{path}.content")
    for is_result, run in groupby(parts, lambda part: isinstance(part, ToolResult)):
        yield Message("tool" if is_result else message.role, tuple(run))


def _see(block: Block, path: str, pending: PendingCalls, role: str) -> None:
    """Pair calls with their results; raise `InvalidRequest` where one is missing, or in another's turn."""
    match block:
        case ToolResultBlock():
            if role != "user":
                raise InvalidRequest("a tool_result belongs into a user's message", param=path)
            pending.answer(block.tool_use_id, f"{path}.tool_use_id")
        case ToolUseBlock():
            if role != "assistant":
                raise InvalidRequest("a tool_use belongs into an assistant's message", param=path)
            pending.call(block.id, f"{path}.id")
        case _ if role != "assistant":
            pending.close(path)
        case _:
            pass


def _to_parts(block: Block, path: str) -> Iterator[Part]:
    """Yield the part that a block says; a thought that cannot be read is not shown to the model again."""
    match block:
        case ImageBlock(transformations=asked) if asked:
            raise Unsupported("images are not transformed here", param=f"{path}.transformations")
        case TextBlock():
            yield Text(block.text)
        case ImageBlock(source=Base64Source(media_type=media_type, data=data)):
            yield Image(data, media_type)
        case ImageBlock():
            raise Unsupported("send the image itself (base64): nothing is fetched here", param=f"{path}.source")
        case ThinkingBlock(thinking=thought):
            check_signature(thought, block.signature, f"{path}.signature")
            if thought:
                yield Thought(thought)
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
