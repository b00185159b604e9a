"""The forms in which models write calls, as a table; a model's form is known by its chat template."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from gateway_hf.tools.values import (
    KnownTools,
    ReadCall,
    ScanRules,
    json_rules,
    python_rules,
    read_fields,
    read_json,
    read_parameters,
    read_python,
)

# What a name of a tool may be made of.
NAME = r"[A-Za-z0-9_.\-]{1,128}"

ValueReader = Callable[[str | None, str, KnownTools], list[ReadCall] | None]


class WrittenForm(NamedTuple):
    """How a call is asked for, exactly: `block` encloses all calls, `call` stands around the name and the arguments.

    block[0] call[0] NAME call[1] ARGUMENTS call[2] between call[0] … block[1]

    Without `between` an answer has one call. `arguments` says how those are spelled; behind a thought, `lead` comes
    first.
    """

    call: tuple[str, str, str]
    block: tuple[str, str] = ("", "")
    between: str | None = None
    arguments: str = "json"
    lead: str = ""

    def write(self, calls: Iterable[tuple[str, str]]) -> str:
        """Write calls that were made, each a name and its arguments as they are spelled here."""
        first, middle, last = self.call
        written = [f"{first}{name}{middle}{arguments}{last}" for name, arguments in calls]
        return self.block[0] + (self.between or "\n").join(written) + self.block[1]


class CallForm(NamedTuple):
    """One form: how it is recognised in a template (`sign`), read and written.

    A call `begins` with a marker, or where an answer begins with one of the characters `bare`. Between that and the
    value stands the `head`, which may have the `name`. The value ends as its `rules` say, or without them where the
    marker `end` stands; `reader` makes calls of it. Markers that are `dropped` say nothing by themselves.
    """

    name: str
    sign: str
    reader: ValueReader
    written: WrittenForm
    begins: tuple[str, ...] = ()
    end: str = ""
    head: str = r"\s*"
    bare: str = ""
    rules: ScanRules | None = json_rules
    dropped: tuple[str, ...] = ()
    id_length: int | None = None


# DeepSeek's marks are written with a bar that only looks like one.
_CALLS_BEGIN, _CALLS_END, _CALL_BEGIN, _CALL_END, _SEPARATOR = (
    f"<\uff5ctool▁{name}\uff5c>" for name in ("calls▁begin", "calls▁end", "call▁begin", "call▁end", "sep")
)
_LISTED = ('{"name": "', '", "arguments": ', "}")
_HERMES = WrittenForm(('<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>"))

# Of a model that may call nothing; and of one that was taught no form, and would repeat a call if it could.
NO_CALLS = CallForm("none", r"(?!)", read_json, _HERMES)
GENERIC = CallForm("generic", r"(?!)", read_json, _HERMES, ("<tool_call>",), "</tool_call>")

FORMS = (
    CallForm(
        "harmony",
        # The published template puts its words together of two texts, in two lines.
        r"<\|channel\|>[\s\S]*to=[^<]{0,40}functions",
        read_json,
        WrittenForm(
            ("<|channel|>commentary to=functions.", " <|constrain|>json<|message|>", ""), lead="<|start|>assistant"
        ),
        (
            "<|channel|>commentary to=functions.",
            "<|start|>assistant<|channel|>commentary to=functions.",
            "<|start|>assistant to=functions.",
        ),
        "<|call|>",
        rf"(?P<name>{NAME})\s*(?:<\|channel\|>(?:commentary|analysis))?\s*(?:<\|constrain\|>)?(?:json)?\s*<\|message\|>\s*",
        dropped=(
            "<|channel|>final<|message|>",
            "<|start|>assistant<|channel|>final<|message|>",
            "<|channel|>commentary<|message|>",
            "<|start|>assistant<|channel|>commentary<|message|>",
            "<|end|>",
        ),
    ),
    CallForm(
        "deepseek",
        rf"{_CALLS_BEGIN}[\s\S]*```json",
        read_json,
        WrittenForm(
            (
                f"{_CALL_BEGIN}function{_SEPARATOR}",
                "\n```json\n",
                f"\n```{_CALL_END}",
            ),
            (_CALLS_BEGIN, _CALLS_END),
            "\n",
        ),
        (_CALL_BEGIN,),
        f"```{_CALL_END}",
        rf"\s*function{_SEPARATOR}(?P<name>{NAME})\s*```json\s*",
        dropped=(_CALLS_BEGIN, _CALLS_END),
    ),
    CallForm(
        "deepseek-v3.1",
        _CALLS_BEGIN,
        read_json,
        WrittenForm(
            (_CALL_BEGIN, _SEPARATOR, _CALL_END),
            (_CALLS_BEGIN, _CALLS_END),
            "",
        ),
        (_CALL_BEGIN,),
        _CALL_END,
        rf"\s*(?P<name>{NAME}){_SEPARATOR}\s*",
        dropped=(_CALLS_BEGIN, _CALLS_END),
    ),
    CallForm(
        "mistral",
        r"\[TOOL_CALLS\](?:[\s\S]*\[ARGS\])",
        read_json,
        WrittenForm(("[TOOL_CALLS]", "[ARGS]", ""), between=""),
        ("[TOOL_CALLS]",),
        head=rf"\s*(?P<name>{NAME})(?:\[CALL_ID\][A-Za-z0-9]+)?\[ARGS\]\s*",
        id_length=9,
    ),
    CallForm(
        "mistral-list",
        r"\[TOOL_CALLS\]",
        read_json,
        WrittenForm(_LISTED, ("[TOOL_CALLS][", "]"), ", "),
        ("[TOOL_CALLS]",),
        id_length=9,
    ),
    CallForm(
        "gemma",
        r"<start_function_call>",
        read_fields,
        WrittenForm(
            ("<start_function_call>call:", "{", "}<end_function_call>"), between="", arguments="fields:<escape>"
        ),
        ("<start_function_call>",),
        "<end_function_call>",
        r"\s*call:",
        rules=None,
    ),
    CallForm(
        "gemma-4",
        r"<\|tool_call>",
        read_fields,
        WrittenForm(("<|tool_call>call:", "{", "}<tool_call|>"), between="", arguments='fields:<|"|>'),
        ("<|tool_call>",),
        "<tool_call|>",
        r"\s*call:",
        rules=None,
    ),
    CallForm(
        "phi",
        r"<\|/tool_call\|>|<\|/tool\|>",
        read_json,
        WrittenForm(_LISTED, ("<|tool_call|>[", "]<|/tool_call|>"), ", "),
        ("<|tool_call|>",),
        "<|/tool_call|>",
    ),
    CallForm(
        "granite",
        r"<\|tool_call\|>",
        read_json,
        WrittenForm(_LISTED, ("<|tool_call|>[", "]"), ", "),
        ("<|tool_call|>",),
    ),
    CallForm(
        "qwen-xml",
        r"<tool_call>[\s\S]*<function=",
        read_parameters,
        WrittenForm(
            ("<tool_call>\n<function=", ">\n", "</function>\n</tool_call>"), between="\n", arguments="parameters"
        ),
        ("<tool_call>",),
        "</tool_call>",
        rules=None,
    ),
    CallForm("hermes", r"<tool_call>", read_json, _HERMES._replace(between="\n"), ("<tool_call>",), "</tool_call>"),
    CallForm(
        "pythonic",
        r"\[[\w.]+\(\w+\s*=",
        read_python,
        WrittenForm(("", "(", ")"), ("[", "]"), ", ", arguments="keywords"),
        ("<|python_start|>", "<|python_tag|>"),
        "<|python_end|>",
        bare="[",
        rules=python_rules,
    ),
    CallForm(
        "llama",
        r"<\|python_tag\|>|[\"']name[\"']: [^\n]*[\"']parameters[\"']:",
        read_json,
        WrittenForm(('{"name": "', '", "parameters": ', "}"), between="; "),
        ("<|python_tag|>",),
        bare="{",
    ),
    CallForm(
        "json",
        r"[\"']name[\"']: [^\n]*[\"']arguments[\"']:",
        read_json,
        WrittenForm(_LISTED, between="\n"),
        bare="{[",
    ),
)


def recognise(template: str) -> CallForm | None:
    """Find the form that a chat template writes calls in, by its text; None for a form that the table lacks."""
    return next((form for form in FORMS if re.search(form.sign, template)), None)
