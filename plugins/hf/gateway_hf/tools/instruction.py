"""Tools for a model that was taught none: an instruction lists them, calls and results are marked text."""

import json
from collections.abc import Sequence

from gateway.engine import Chat, Tool
from gateway_hf.text.template import TemplateMessage
from gateway_hf.tools.probe import described

_INTRODUCTION = "You can call these functions, each of which is described in JSON:\n"
_FORM = (
    "\nTo call one, write its name and its arguments in this form:\n"
    '<tool_call>\n{"name": "...", "arguments": {...}}\n</tool_call>\n'
    "What it returns is then shown between <tool_response> and </tool_response>."
)


def instruct(chat: Chat) -> str:
    """Write what the model has to know of the tools; nothing where it may call none."""
    if not chat.tools or chat.tool_choice == "none":
        return ""
    listed = "\n".join(_describe(tool) for tool in chat.tools)
    return _INTRODUCTION + listed + _FORM + _choice(chat)


def write_call(name: str, arguments: str) -> str:
    """Write a call that was made."""
    return f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": {arguments}}}\n</tool_call>'


def write_result(text: str) -> str:
    """Write what a tool returned, so that nothing in it can look like the end of it."""
    said = json.dumps(text, ensure_ascii=False).replace("<", "\\u003c")
    return f"<tool_response>\n{said}\n</tool_response>"


def with_instruction(turns: list[TemplateMessage], text: str, *, in_system: bool) -> list[TemplateMessage]:
    """Put an instruction before a conversation: into the system's message, or where there is none, the user's."""
    if not text:
        return turns
    first = "system" if in_system else "user"
    at = next((n for n, turn in enumerate(turns) if turn["role"] == first), None)
    if at is None or (in_system and at):
        return [{"role": first, "content": text}, *turns]
    said = turns[at]["content"]
    joined = f"{said}\n\n{text}" if in_system else f"{text}\n\n{said}"
    return [*turns[:at], {**turns[at], "content": joined}, *turns[at + 1 :]]


def join_turns(turns: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """Join the messages of one role that follow each other, as many templates have the roles take turns."""
    joined: list[TemplateMessage] = []
    for turn in turns:
        if joined and joined[-1]["role"] == turn["role"]:
            joined[-1] = {**joined[-1], "content": f"{joined[-1]['content']}\n{turn['content']}"}
        else:
            joined.append(turn)
    return joined


def _describe(tool: Tool) -> str:
    return json.dumps(described(tool.name, tool.description, tool.parameters)["function"], ensure_ascii=False)


def _choice(chat: Chat) -> str:
    named = [chat.tool_choice] if chat.tool_choice not in ("auto", "required") else [*chat.allowed_tools]
    if named:
        must = "may" if chat.tool_choice == "auto" else "must"
        return f"\nOf them you {must} now call {' or '.join(named)} only."
    return "\nYou must now call one of them." if chat.tool_choice == "required" else ""
