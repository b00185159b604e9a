"""From the messages and tools of a chat completion to the engine's conversation; pure."""

from base64 import b64decode
from collections.abc import Iterator

from gateway.api.exchange.tools import PendingCalls
from gateway.api.openai.messages import ContentPart, InputMessage
from gateway.api.openai.schema import ChatCompletionBody
from gateway.api.openai.thinking import thinking_path, to_template_arguments, to_thinking
from gateway.api.openai.tools import has_functions, to_choice, to_tools
from gateway.engine import (
    Capability,
    Chat,
    Image,
    InvalidRequest,
    Message,
    Part,
    Role,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    Unsupported,
)

_ROLES: dict[str, Role] = {"developer": "system", "function": "tool"}


def to_chat(body: ChatCompletionBody) -> Chat:
    """Make the conversation; raise `InvalidRequest` with the path of a message that is none."""
    pending = PendingCalls()
    messages = tuple(_to_message(message, number, pending) for number, message in enumerate(body.messages))
    tools = to_tools(body)
    choice = to_choice(body, tools)
    wish = to_thinking(body)
    may_call = bool(tools) and choice.choice != "none"
    return Chat(
        messages,
        tools,
        choice.choice,
        continue_final=_goes_on(body),
        generation_prompt=body.add_generation_prompt is not False,
        template_arguments=to_template_arguments(body.chat_template_kwargs or {}),
        allowed_tools=choice.allowed,
        parallel_tool_calls=not (may_call and (body.parallel_tool_calls is False or has_functions(body))),
        reasoning=wish.reasoning,
        reasoning_effort=wish.effort,
        reasoning_budget=wish.budget,
    )


def path_of(capability: str | None, body: ChatCompletionBody) -> str | None:
    """Say where in a conversation's body a capability is asked for, unless it is a field by itself."""
    match capability:
        case Capability.VISION:
            return _image_path(body)
        case Capability.TOOLS if not (body.tools or body.functions):
            return _call_path(body)
        case Capability.PARALLEL_TOOL_CALLS if body.functions:
            return "functions"
        case Capability.REASONING | Capability.REASONING_EFFORT | Capability.REASONING_BUDGET:
            return thinking_path(capability, body)
        case _:
            return None


def _image_path(body: ChatCompletionBody) -> str:
    """Find the first image."""
    for number, message in enumerate(body.messages):
        parts = () if message.content is None or isinstance(message.content, str) else message.content
        for index, part in enumerate(parts):
            if part.type == "image_url":
                return f"messages[{number}].content[{index}].image_url"
    return "messages"


def _call_path(body: ChatCompletionBody) -> str:
    """Find the first call, or the first result."""
    for number, message in enumerate(body.messages):
        for name in ("tool_calls", "function_call", "tool_call_id"):
            if getattr(message, name):
                return f"messages[{number}].{name}"
    return "messages"


def echoed(body: ChatCompletionBody) -> str:
    """Return the text of the last message where the answer, which belongs to it, is to begin with it."""
    last = body.messages[-1]
    if last.role != "assistant" and body.add_generation_prompt is not False:
        return ""
    parts = () if last.content is None or isinstance(last.content, str) else last.content
    return last.content if isinstance(last.content, str) else "".join(part.text or "" for part in parts)


def _goes_on(body: ChatCompletionBody) -> bool:
    """Tell whether the answer goes on with the last message."""
    goes_on = bool(body.continue_final_message)
    if goes_on and body.add_generation_prompt:
        raise InvalidRequest(
            "add_generation_prompt does not go with continue_final_message", param="add_generation_prompt"
        )
    if goes_on and body.messages[-1].role != "assistant":
        raise InvalidRequest("only an assistant's message can be continued", param="continue_final_message")
    return goes_on


def _to_message(message: InputMessage, number: int, pending: PendingCalls) -> Message:
    path = f"messages[{number}]"
    role: Role = _ROLES.get(message.role) or message.role  # type: ignore[assignment]  # the others are the engine's own
    if message.audio is not None:
        raise Unsupported("audio is not supported in a message", param=f"{path}.audio")
    texts = tuple(_to_parts(message, path))
    if role == "tool":
        return Message(role, (_to_result(message, texts, path, pending),))
    pending.close(path)
    calls = tuple(_to_calls(message, number, path))
    if calls and role != "assistant":
        name = "tool_calls" if message.tool_calls else "function_call"
        raise InvalidRequest("only the assistant calls tools", param=f"{path}.{name}")
    for at, call in enumerate(calls):
        pending.call(call.id, f"{path}.tool_calls[{at}].id")
    if not texts and not calls:
        raise InvalidRequest("this message says nothing", param=f"{path}.content")
    thought = (message.reasoning_content or message.reasoning or "") if role == "assistant" else ""
    return Message(role, (*((Thought(thought),) if thought else ()), *texts, *calls))


def _to_calls(message: InputMessage, number: int, path: str) -> Iterator[ToolCall]:
    """Yield the calls of a message; one of `functions` has no id, and gets one."""
    for call in message.tool_calls or ():
        yield ToolCall(call.id, call.function.name, call.function.arguments)
    if message.function_call is not None:
        if message.tool_calls:
            raise InvalidRequest("give tool_calls or function_call, not both", param=f"{path}.function_call")
        yield ToolCall(f"call_{number}", message.function_call.name, message.function_call.arguments)


def _to_parts(message: InputMessage, path: str) -> Iterator[Part]:
    content = message.refusal if message.content is None else message.content
    if isinstance(content, str):
        yield Text(content)
        return
    for number, part in enumerate(content or ()):
        yield _to_part(part, f"{path}.content[{number}]")


def _to_part(part: ContentPart, path: str) -> Part:
    match part.type:
        case "text" | "refusal":
            text = part.text if part.type == "text" else part.refusal
            if text is None:
                raise InvalidRequest(f"this part needs its field {part.type!r}", param=f"{path}.{part.type}")
            return Text(text)
        case "image_url":
            if part.image_url is None:
                raise InvalidRequest("this part needs its field 'image_url'", param=f"{path}.image_url")
            return _to_image(part.image_url.url, f"{path}.image_url")
        case _:
            raise Unsupported("sound, films and files are not supported here", param=path)


def _to_image(url: str, path: str) -> Image:
    """Decode a data URL. Nothing is fetched: no request can make the service call an address."""
    head, comma, data = url.partition(",")
    if not head.startswith("data:"):
        raise Unsupported("send the image itself, as a data: URL; nothing is fetched here", param=f"{path}.url")
    media_type, *marks = head.removeprefix("data:").split(";")
    try:
        if not comma or marks[-1:] != ["base64"] or not media_type.startswith("image/"):
            raise InvalidRequest("an image begins with data:image/TYPE;base64,", param=f"{path}.url")
        return Image(b64decode(data, validate=True), media_type)
    except ValueError as error:
        raise InvalidRequest("the image is not base64", param=f"{path}.url") from error


def _to_result(message: InputMessage, parts: tuple[Part, ...], path: str, pending: PendingCalls) -> ToolResult:
    """Make the result of the call that the message names; of `functions` it is the one call before."""
    field, call_id, missing = "tool_call_id", message.tool_call_id, "a tool's message names the call that it answers"
    if message.role == "function":
        field, call_id, missing = "name", pending.only, "no function was called before this message"
    if call_id is None:
        raise InvalidRequest(missing, param=f"{path}.{field}")
    pending.answer(call_id, f"{path}.{field}")
    if any(not isinstance(part, Text) for part in parts):
        raise Unsupported("the result of a tool can only be text here", param=f"{path}.content")
    return ToolResult(call_id, "".join(part.text for part in parts if isinstance(part, Text)))
