"""Find out at load how a chat template takes tools, by rendering a conversation with a call in it."""

import itertools
import json
import logging
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from gateway.engine import EngineError
from gateway_hf.text.probe import to_content
from gateway_hf.text.template import TemplateMessage, render
from gateway_hf.tools.forms import GENERIC, CallForm, recognise

_log = logging.getLogger("gateway_hf")

_TOOL = "probed_tool"
_KEY, _VALUE, _RESULT = "probed_key", "probed value", "probed result"
_CALL_ID = "probedid1"


class ToolFacts(NamedTuple):
    """How tools reach the model: in what form it calls, and what its template reads.

    The arguments of a call are read as an object, or as text; the tools as a variable, or `in_system`, as a part of the
    system's message. A template that shows no calls reads them `in_content`, as the text that the model wrote.
    Results are texts, or `in_parts`.
    """

    form: CallForm = GENERIC
    as_text: bool = False
    in_system: bool = False
    in_content: bool = False
    in_parts: bool = False

    @property
    def is_generic(self) -> bool:
        """Whether the template knows nothing of tools, so that an instruction has to say it all."""
        return self.form is GENERIC


def described(name: str, description: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Describe a tool as templates expect it."""
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def called(number: str, name: str, arguments: object) -> dict[str, Any]:
    """Describe a call as templates expect it."""
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}


# A tool for a template to describe.
PROBED = described(
    _TOOL, "a tool", {"type": "object", "properties": {_KEY: {"type": "string", "description": "a key"}}}
)


def try_tools(tokenizer: PreTrainedTokenizerBase, template: str, parts: frozenset[str] = frozenset()) -> ToolFacts:
    """Find out how a template takes tools; a form that is not known, or that it cannot be fed, is the generic one.

    The messages of the roles in `parts` it reads in content parts.
    """
    form = recognise(template)
    if form is None or "tools" not in template:
        return ToolFacts()
    for in_parts, in_content, in_system, as_text in itertools.product((False, True), repeat=4):
        if in_content and (as_text or form.written.arguments != "json"):
            continue
        facts = ToolFacts(form, as_text, in_system, in_content, in_parts)
        written = _write(tokenizer, facts, parts | {"tool"} if in_parts else parts)
        if written is not None and _is_read(written):
            return facts
    _log.warning(
        "the chat template names the %s form of tools, but shows not all of them; an instruction serves", form.name
    )
    return ToolFacts()


def _write(tokenizer: PreTrainedTokenizerBase, facts: ToolFacts, parts: frozenset[str]) -> str | None:
    tools = [PROBED]
    arguments = {_KEY: _VALUE}
    call = called(_CALL_ID, _TOOL, json.dumps(arguments) if facts.as_text else arguments)
    said = facts.form.written.write([(_TOOL, json.dumps(arguments))]) if facts.in_content else ""
    messages: list[TemplateMessage] = [
        {"role": "user", "content": "a question"},
        {"role": "assistant", "content": said} | ({} if said else {"tool_calls": [call]}),
        {"role": "tool", "content": _RESULT, "tool_call_id": _CALL_ID, "name": _TOOL},
    ]
    given: dict[str, Any] = {"tools": tools}
    if facts.in_system:
        messages.insert(0, {"role": "system", "content": "a system", "tools": json.dumps(tools)})
        given = {}
    for message in messages:
        message["content"] = to_content(message["content"], in_parts=message["role"] in parts)
    try:
        return render(tokenizer, messages, given)
    except EngineError:
        return None


def _is_read(written: str) -> bool:
    """Tell whether tool, call and result show, and the arguments neither as Python nor as text within text."""
    described_and_called = all(written.count(word) > 1 for word in (_TOOL, _KEY))
    shown = described_and_called and _VALUE in written and _RESULT in written
    return shown and f"'{_KEY}'" not in written and f'\\"{_KEY}' not in written
