"""Turn a conversation into the messages that a chat template reads: texts, calls, results and thoughts."""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from gateway.engine import Chat, Image, InvalidRequest, Message, Thought, ToolCall, ToolResult, Unsupported
from gateway_hf.text.probe import TemplateFacts, to_content
from gateway_hf.text.template import TemplateMessage
from gateway_hf.tools.instruction import instruct, join_turns, with_instruction, write_call, write_result
from gateway_hf.tools.probe import ToolFacts, called, described
from gateway_hf.tools.values import JsonValue

T = TypeVar("T")

# Hides what in a text of a role reads like a marker of the model's.
Hiding = Callable[[str, str], str]


class ConversationWriter(NamedTuple):
    """Writes conversations for one template; `hide` is the request's own."""

    template: TemplateFacts
    tools: ToolFacts
    hide: Hiding

    def messages(self, chat: Chat) -> list[TemplateMessage]:
        """Return the messages; raise `Unsupported` for an image, `InvalidRequest` for arguments that are no object."""
        names = {part.id: part.name for turn in chat.messages for part in turn.parts if isinstance(part, ToolCall)}
        turns = [written for turn in chat.messages for written in self._write(turn, names)]
        instruction = self.hide("user", instruct(chat)) if self.tools.is_generic else ""
        if self.tools.is_generic and (names or instruction):
            turns = with_instruction(join_turns(turns), instruction, in_system=self.template.reads_system)
        if self.tools.in_system and (tools := self.described(chat)):
            turns = [*turns] if turns and turns[0]["role"] == "system" else [{"role": "system", "content": ""}, *turns]
            turns[0] = {**turns[0], "tools": json.dumps(tools, ensure_ascii=False)}
        for turn in turns:
            turn["content"] = to_content(turn["content"], in_parts=turn["role"] in self.template.parts)
        return turns

    def arguments(self, chat: Chat) -> dict[str, Any]:
        """Return the tools as a variable of the template, where it reads them so."""
        given = {} if self.tools.is_generic or self.tools.in_system else {"tools": self.described(chat)}
        return {name: value for name, value in given.items() if value}

    def described(self, chat: Chat) -> list[dict[str, Any]]:
        """Describe the tools that the model may call."""
        if chat.tool_choice == "none":
            return []
        return [
            described(*hide_deep(self._hide_user, [tool.name, tool.description, tool.parameters]))
            for tool in chat.tools
        ]

    def _hide_user(self, text: str) -> str:
        return self.hide("user", text)

    def _write(self, turn: Message, names: dict[str, str]) -> Iterator[TemplateMessage]:
        """Write a message; each result in it is one of its own, before the rest."""
        if any(isinstance(part, Image) for part in turn.parts):
            raise Unsupported("the model reads text only: no images", param="messages")
        results = _of(turn, ToolResult)
        yield from (self._result(result, names.get(result.id, "")) for result in results)
        if results and len(results) == len(turn.parts):
            return
        text = self.hide(turn.role, turn.text)
        calls = _of(turn, ToolCall)
        if self.tools.is_generic:
            marked = [write_call(call.name, _sound(call)) for call in calls]
            yield {"role": turn.role, "content": "\n".join(filter(None, (text, *map(self._hide_user, marked))))}
            return
        message: TemplateMessage = {"role": turn.role, "content": text}
        if calls and self.tools.in_content:
            written = [(self._hide_user(call.name), self._hide_user(_sound(call))) for call in calls]
            message["content"] = "\n".join(filter(None, (text, self.tools.form.written.write(written))))
        elif calls:
            message["tool_calls"] = [self._called(call) for call in calls]
        if thought := "".join(part.text for part in _of(turn, Thought)):
            message["reasoning_content"] = self.hide("assistant", thought)
        yield message

    def _called(self, call: ToolCall) -> dict[str, Any]:
        arguments = _sound(call)
        given: Any = self._hide_user(arguments)
        if not self.tools.as_text:
            given = hide_deep(self._hide_user, json.loads(arguments))
        return called(self._number(call.id), self._hide_user(call.name), given)

    def _result(self, result: ToolResult, name: str) -> TemplateMessage:
        if self.tools.is_generic:
            return {"role": "user", "content": self._hide_user(write_result(result.text))}
        return {
            "role": "tool",
            "content": self._hide_user(result.text),
            "tool_call_id": self._number(result.id),
            "name": self._hide_user(name),
        }

    def _number(self, number: str) -> str:
        """Return a call's id as the model reads them; some templates take only ids of one length."""
        length = self.tools.form.id_length
        if length is None or (len(number) == length and number.isalnum() and number.isascii()):
            return self._hide_user(number)
        return hashlib.sha256(number.encode()).hexdigest()[:length]


def hide_deep(hide: Callable[[str], str], value: JsonValue) -> JsonValue:
    """Hide in every text of a JSON value."""
    match value:
        case str():
            return hide(value)
        case list():
            return [hide_deep(hide, each) for each in value]
        case dict():
            return {hide(key): hide_deep(hide, each) for key, each in value.items()}
        case _:
            return value


def _of(turn: Message, kind: type[T]) -> list[T]:
    return [part for part in turn.parts if isinstance(part, kind)]


def _sound(call: ToolCall) -> str:
    """Return a call's arguments; raise `InvalidRequest` where they are no JSON object."""
    try:
        if isinstance(json.loads(call.arguments or "{}"), dict):
            return call.arguments or "{}"
    except (ValueError, RecursionError):
        pass
    raise InvalidRequest(f"the arguments of the call {call.id!r} are no JSON object", param="messages")
