"""From the items of a conversation to the engine's messages; pure."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from gateway.api.exchange.tools import PendingCalls
from gateway.api.responses.items import InputItem, ItemPart
from gateway.api.responses.sealed import unseal
from gateway.engine import InvalidRequest, Message, Role, Text, Thought, ToolCall, ToolResult, Unsupported

_SAID = frozenset({"input_text", "output_text", "text"})


def to_messages(items: Iterable[InputItem], at: str = "input") -> tuple[Message, ...]:
    """Make messages of items; raise `InvalidRequest` with the path of one that is none.

    What the assistant thought, said and called in a row is one turn.
    """
    return tuple(_joined(_to_message(item, f"{at}[{number}]") for number, item in enumerate(items)))


def check_calls(messages: Iterable[Message], param: str) -> None:
    """Raise `InvalidRequest` where a result answers no call of the turn before, or a call has none before a turn."""
    pending = PendingCalls()
    for message in messages:
        if message.role != "tool":
            pending.close(param)
        for part in message.parts:
            if isinstance(part, ToolCall):
                pending.call(part.id, param)
            elif isinstance(part, ToolResult):
                pending.answer(part.id, param)


def _joined(turns: Iterable[Message]) -> Iterator[Message]:
    for role, run in groupby(turns, lambda turn: turn.role):
        same = [turn for turn in run if turn.parts]  # of a thought that another server has sealed nothing can be told
        parts = tuple(part for turn in same for part in turn.parts)
        if role != "assistant" or not any(isinstance(part, ToolCall | Thought) for part in parts):
            yield from same
        elif any(not isinstance(part, Thought) for part in parts):  # a thought alone is no turn
            yield Message(role, parts)


def _to_message(item: InputItem, path: str) -> Message:
    match item.type:
        case "message":
            if item.role is None:
                raise InvalidRequest("this field is required", param=f"{path}.role")
            role: Role = "system" if item.role == "developer" else item.role
            return Message(role, tuple(_to_texts(item.content, f"{path}.content")))
        case "function_call":
            call = ToolCall(
                _required(item.call_id, f"{path}.call_id"),
                _required(item.name, f"{path}.name"),
                _required(item.arguments, f"{path}.arguments"),
            )
            return Message("assistant", (call,))
        case "function_call_output":
            text = "".join(part.text for part in _to_texts(item.output, f"{path}.output", is_empty_right=True))
            return Message("tool", (ToolResult(_required(item.call_id, f"{path}.call_id"), text),))
        case "reasoning":
            return Message("assistant", tuple(_to_thoughts(item, path)))
        case _:
            raise Unsupported(f"items of the type {item.type[:60]!r} are not supported here", param=f"{path}.type")


def _to_thoughts(item: InputItem, path: str) -> Iterator[Thought]:
    """Read a thought: what it says, else what is sealed of it, else what sums it up."""
    sealed = None if item.encrypted_content is None else unseal(item.encrypted_content, f"{path}.encrypted_content")
    said = _text_of(item.content if isinstance(item.content, tuple) else ())
    if said and sealed is not None and said != sealed:
        raise InvalidRequest("this is another thought than the content of the item", param=f"{path}.encrypted_content")
    text = said or sealed or _text_of(item.summary or ())
    if text:
        yield Thought(text)


def _text_of(parts: tuple[ItemPart, ...]) -> str:
    return "".join(part.text or "" for part in parts)


def _to_texts(content: str | tuple[ItemPart, ...] | None, path: str, *, is_empty_right: bool = False) -> Iterator[Text]:
    if content is None or (content == () and not is_empty_right):
        raise InvalidRequest("this item says nothing", param=path)
    if isinstance(content, str):
        yield Text(content)
        return
    for number, part in enumerate(content):
        yield _to_text(part, f"{path}[{number}]")


def _to_text(part: ItemPart, path: str) -> Text:
    if part.type in _SAID:
        return Text(_required(part.text, f"{path}.text"))
    if part.type == "refusal":
        return Text(_required(part.refusal, f"{path}.refusal"))
    raise Unsupported(f"parts of the type {part.type[:60]!r} are not supported here", param=path)


def _required(value: str | None, path: str) -> str:
    if value is None:
        raise InvalidRequest("this field is required", param=path)
    return value
