"""Write the grammar that holds an answer to calls in a model's own form: llguidance's Lark, with JSON schemas in it."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gateway.engine import Choice, Constraint, InvalidRequest, JsonObject, JsonSchema, Regex, Tool, Unsupported
from gateway_hf.constrain.grammars import param_of
from gateway_hf.tools.forms import NAME, CallForm

# As `json.dumps` writes it: a model that may put blanks anywhere may write them for ever.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_ANYTHING = "/(?s:.*)/"
_DEFINITIONS = ("$defs", "definitions")

Specials = Mapping[str, int]


class CallRules(NamedTuple):
    """What calls an answer may, or must, have; `content` is what it has to be where it calls nothing."""

    tools: Sequence[Tool]
    is_required: bool
    is_single: bool
    content: Constraint | None = None


def write_grammar(form: CallForm, rules: CallRules, specials: Specials) -> str:
    """Write the grammar; `specials` are the ids of the special tokens, which are no text.

    Raises `InvalidRequest` for a name that no call can have, and `Unsupported` for a `content` that cannot be combined.
    """
    return _GrammarWriter(form, rules, specials).write()


class _GrammarWriter:
    def __init__(self, form: CallForm, rules: CallRules, specials: Specials) -> None:
        self._form = form
        self._rules = rules
        self._specials = specials
        self._special = re.compile("|".join(map(re.escape, sorted(specials, key=len, reverse=True))) or "(?!)")
        self._lines: list[str] = []

    def write(self) -> str:
        written, rules = self._form.written, self._rules
        first = written.block[0] + written.call[0]
        following = "" if rules.is_single or written.between is None else f"({self._text(written.between)} call)*"
        behind = f"call_tail {following} {self._text(written.block[1])}"
        self._rule("call", f"{self._text(written.call[0])} call_tail")
        self._rule("call_tail", " | ".join([self._tail(number, tool) for number, tool in enumerate(rules.tools)]))
        self._rule("calls", f"{self._text(first)} {behind}")
        lead = f"({self._text(written.lead)})?" if written.lead else ""
        self._rule("required", f"{lead} calls".strip())
        if rules.is_required:
            return self._whole("required")
        if rules.content is not None:
            return self._whole(f"required | {self._content(rules.content)}")
        return self._whole(self._free(first, lead, behind))

    def _free(self, first: str, lead: str, behind: str) -> str:
        """Allow any text, and calls behind it once their marker is written."""
        form = self._form
        if form.bare:
            return f"calls | TEXT\nTEXT: /(\\s*[^\\s{re.escape(form.bare)}](?s:.*))?/"
        said = [mark for mark in form.dropped if mark not in form.written.block and self._special.match(mark)]
        self._rule("prose", f"(TEXT ({' | '.join(map(self._text, said))}))* TEXT" if said else "TEXT")
        if (token := self._special.match(first)) is not None:
            rest = self._text(first[token.end() :])
            self._rule("led", f"prose {lead} {self._text(token[0])} {rest} {behind}")
        else:
            marker = next(mark for mark in (*form.begins, *form.dropped) if first.startswith(mark))
            self._rule("marker[lazy]", f"/(?s:.*){_escape(marker)}/")
            self._rule("led", f"marker {self._text(first[len(marker) :])} {behind}")
        return f"led | prose\nTEXT: {_ANYTHING}"

    def _whole(self, start: str) -> str:
        return "\n".join([f"start: {start}", *self._lines])

    def _rule(self, name: str, body: str) -> str:
        self._lines.append(f"{name}: {body}")
        return name

    def _text(self, text: str) -> str:
        """Write a text in which special tokens may stand."""
        parts, at = [], 0
        for found in self._special.finditer(text):
            parts += [_quoted(text[at : found.start()]), f"<[{self._specials[found[0]]}]>"]
            at = found.end()
        return " ".join(filter(None, [*parts, _quoted(text[at:])]))

    def _tail(self, number: int, tool: Tool) -> str:
        """Write what follows the beginning of a call: the tool's name and its arguments."""
        if not re.fullmatch(NAME, tool.name):
            raise InvalidRequest(f"no call can name the tool {tool.name!r}: letters, digits, _, . and -", param="tools")
        _, between, end = self._form.written.call
        arguments = self._arguments(f"t{number}", tool)
        parts = (_quoted(tool.name), self._text(between), arguments, self._text(end))
        return self._rule(f"t{number}", " ".join(filter(None, parts)))

    def _arguments(self, rule: str, tool: Tool) -> str:
        schema = arguments_schema(tool)
        kind, _, mark = self._form.written.arguments.partition(":")
        if kind == "json":
            return f"%json {json.dumps(schema)}"
        spelled = {"parameters": self._parameter, "keywords": self._keyword, "fields": self._field}[kind]
        shared = {key: schema[key] for key in ("x-guidance", *_DEFINITIONS) if key in schema}
        fields = [
            (spelled(f"{rule}_{at}", name, shared | _as_dict(each), mark), name in schema.get("required", ()))
            for at, (name, each) in enumerate(_as_dict(schema.get("properties")).items())
        ]
        if kind == "parameters":
            return " ".join(field if needed else f"({field})?" for field, needed in fields)
        return self._separated(rule, fields, '", "' if kind == "keywords" else '","')

    def _separated(self, rule: str, fields: list[tuple[str, bool]], separator: str) -> str:
        """Write fields in their order with a separator between those that are there."""
        first = rest = ""
        for at, (field, needed) in reversed([*enumerate(fields)]):
            begun = " ".join(filter(None, (field, rest)))
            first = self._rule(f"{rule}_first{at}", begun if needed else f"{begun} | {first}".rstrip())
            follows = f"{separator} {field}" if needed else f"({separator} {field})?"
            rest = self._rule(f"{rule}_rest{at}", " ".join(filter(None, (follows, rest))))
        return first

    def _parameter(self, rule: str, name: str, schema: dict[str, Any], _: str) -> str:
        value = self._string_until(rule, schema, "\n</parameter>\n")
        return self._rule(rule, f"{_quoted(f'<parameter={name}>')} {_quoted(chr(10))} {value}")

    def _keyword(self, rule: str, name: str, schema: dict[str, Any], _: str) -> str:
        if not name.isidentifier():
            raise Unsupported(f"the model's form of calls has no way to say {name!r}", param="tools")
        return self._rule(rule, f"{_quoted(f'{name}=')} %json {json.dumps(schema)}")

    def _field(self, rule: str, name: str, schema: dict[str, Any], mark: str) -> str:
        key = _quoted(f"{name}:")
        if schema.get("type") != "string":
            return self._rule(rule, f"{key} %json {json.dumps(schema)}")
        return self._rule(rule, f"{key} {self._text(mark)} {self._string_until(rule, schema, mark)}")

    def _string_until(self, rule: str, schema: dict[str, Any], end: str) -> str:
        """Write a value whose texts stand as they are and last until `end`; others are JSON."""
        if schema.get("type") != "string":
            return f"%json {json.dumps(schema)} {self._text(end)}"
        if options := schema.get("enum"):
            chosen = " | ".join(_quoted(str(option)) for option in options)
            return f"({chosen}) {self._text(end)}"
        if end in self._specials:
            return f"{_ANYTHING} {self._text(end)}"
        return self._rule(f"{rule}_text[lazy]", f"/(?s:.*){_escape(end)}/").removesuffix("[lazy]")

    def _content(self, constraint: Constraint) -> str:
        """Write what the answer has to be where it calls nothing."""
        if self._form.bare and isinstance(constraint, JsonSchema | JsonObject):
            raise Unsupported(
                "an answer that is JSON cannot be told from a call in this model's form of calls",
                param=param_of(constraint),
            )
        match constraint:
            case JsonSchema(schema):
                return f"%json {json.dumps(schema | {'x-guidance': _LAYOUT})}"
            case JsonObject():
                return f"%json {json.dumps({'type': 'object', 'x-guidance': _LAYOUT})}"
            case Regex(pattern):
                return f"/{pattern.replace('/', chr(92) + '/')}/"
            case Choice(options):
                return " | ".join(map(_quoted, options))
            case _:
                raise Unsupported(
                    "a grammar cannot be combined with tools that may be called", param=param_of(constraint)
                )


def arguments_schema(tool: Tool) -> dict[str, Any]:
    """Return the schema that a tool's arguments are held to: an object of the properties that it names.

    What a tool that is not `strict` asks for beyond what can be held to is left out.
    """
    schema = _closed(tool.parameters) if tool.parameters else {"properties": {}, "additionalProperties": False}
    layout = _LAYOUT | {"lenient": not tool.strict}
    return {"type": "object"} | schema | {"x-guidance": layout}


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Close objects that name their properties: a model would go on making up others."""
    closed = dict(schema)
    if isinstance(properties := schema.get("properties"), dict):
        closed["properties"] = {
            name: _closed(each) if isinstance(each, dict) else each for name, each in properties.items()
        }
        if not {"patternProperties", "allOf", "anyOf", "oneOf", "$ref", "propertyNames"} & schema.keys():
            closed.setdefault("additionalProperties", False)
    if isinstance(items := schema.get("items"), dict):
        closed["items"] = _closed(items)
    return closed


def _as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""


def _escape(text: str) -> str:
    return re.escape(text).replace("\\\n", "\\n").replace("/", "\\/")
