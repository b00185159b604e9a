"""From the messages and tools of a chat completion to the engine's conversation; pure."""

from base64 import b64decode
from collections.abc import Iterator

from gateway.api.openai.messages import ChosenTool, ContentPart, FunctionTool, InputMessage
from gateway.api.openai.schema import ChatCompletionBody
from gateway.engine import (
    Chat,
    Image,
    InvalidRequest,
    Message,
    Part,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Unsupported,
)


def to_chat(body: ChatCompletionBody) -> Chat:
    """Make the conversation; raise `InvalidRequest` with the path of a message that is none."""
    messages = tuple(_to_message(message, f"messages[{number}]") for number, message in enumerate(body.messages))
    tools = tuple(_to_tool(tool, f"tools[{number}]") for number, tool in enumerate(body.tools or ()))
    if tools and body.parallel_tool_calls is False and body.tool_choice != "none":
        raise Unsupported("parallel calls cannot be turned off", param="parallel_tool_calls")
    return Chat(
        messages,
        tools,
        _to_choice(body, tools),
        continue_final=_goes_on(body),
        generation_prompt=body.add_generation_prompt is not False,
        template_arguments=body.chat_template_kwargs or {},
    )


def image_path(body: ChatCompletionBody) -> str:
    """Say where the first image of a conversation is."""
    for number, message in enumerate(body.messages):
        parts = () if message.content is None or isinstance(message.content, str) else message.content
        for index, part in enumerate(parts):
            if part.type == "image_url":
                return f"messages[{number}].content[{index}].image_url"
    return "messages"


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


def _to_message(message: InputMessage, path: str) -> Message:
    role: Role = "system" if message.role == "developer" else message.role
    for name in ("audio", "function_call"):
        if getattr(message, name) is not None:
            raise Unsupported(f"{name} is not supported in a message", param=f"{path}.{name}")
    if message.tool_calls and role != "assistant":
        raise InvalidRequest("only the assistant calls tools", param=f"{path}.tool_calls")
    texts = tuple(_to_parts(message, path))
    if role == "tool":
        return Message(role, (_to_result(message, texts, path),))
    calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ())
    if not texts and not calls:
        raise InvalidRequest("this message says nothing", param=f"{path}.content")
    return Message(role, (*texts, *calls))


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
            raise Unsupported("sound and files are not supported here", param=path)


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


def _to_result(message: InputMessage, parts: tuple[Part, ...], path: str) -> ToolResult:
    if message.tool_call_id is None:
        raise InvalidRequest("a tool's message names the call that it answers", param=f"{path}.tool_call_id")
    if any(not isinstance(part, Text) for part in parts):
        raise Unsupported("the result of a tool can only be text here", param=f"{path}.content")
    return ToolResult(message.tool_call_id, "".join(part.text for part in parts if isinstance(part, Text)))


def _to_tool(tool: FunctionTool, path: str) -> Tool:
    function = tool.function
    if function.strict:
        raise Unsupported("calls are not held to their schema here", param=f"{path}.function.strict")
    return Tool(function.name, function.description or "", function.parameters or {})


def _to_choice(body: ChatCompletionBody, tools: tuple[Tool, ...]) -> str:
    choice = body.tool_choice
    if choice is None:
        return "auto"
    if isinstance(choice, ChosenTool):
        if choice.function.name not in {tool.name for tool in tools}:
            raise InvalidRequest("there is no such tool among tools", param="tool_choice.function.name")
        return choice.function.name
    if choice == "required" and not tools:
        raise InvalidRequest("there are no tools to choose from", param="tool_choice")
    return choice
