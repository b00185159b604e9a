"""Read what stands in a call: JSON, Python's keywords, tagged parameters, fields; and find where such a value ends."""

import ast
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from gateway.engine import Tool

JsonValue: TypeAlias = Any
KnownTools = Mapping[str, Tool]


class ReadCall(NamedTuple):
    """A call that was read; the arguments are the text of a JSON object."""

    name: str
    arguments: str


class ScanRules(NamedTuple):
    """What opens and closes a value, and what encloses the strings in which neither counts."""

    opening: str
    closing: str
    quotes: str


json_rules = ScanRules("[{", "]}", '"')
python_rules = ScanRules("([{", ")]}", "\"'")


class ValueScan:
    """Finds the end of a value that begins with a bracket, in a text that comes in pieces."""

    def __init__(self, rules: ScanRules) -> None:
        self._rules = rules
        self._outside = re.compile(f"[{re.escape(rules.opening + rules.closing + rules.quotes)}]")
        self._depth = 0
        self._quote = ""
        self._escaped = False

    def end(self, text: str) -> int | None:
        """Take the next piece and return where in it the value ends; None where it does not."""
        at = 1 if self._escaped and text else 0
        self._escaped = self._escaped and not text
        while at < len(text):
            if self._quote:
                at = self._skip_string(text, at)
                continue
            found = self._outside.search(text, at)
            if found is None:
                return None
            at = found.end()
            if found[0] in self._rules.quotes:
                self._quote = found[0]
            elif found[0] in self._rules.opening:
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth <= 0:
                    return at
        return None

    def _skip_string(self, text: str, at: int) -> int:
        """Return where the text goes on behind the string, or its end."""
        while at < len(text):
            quote, slash = text.find(self._quote, at), text.find("\\", at)
            if quote < 0 and slash < 0:
                return len(text)
            if slash < 0 or 0 <= quote < slash:
                self._quote = ""
                return quote + 1
            at = slash + 2
        self._escaped = at > len(text)
        return len(text)


def read_json(name: str | None, text: str, tools: KnownTools) -> list[ReadCall] | None:
    """Read the arguments of the tool `name`; or objects that say name and arguments themselves, one or a list."""
    del tools
    value = _loads(text)
    if name is not None:
        return _calls([(name, value)])
    entries = value if isinstance(value, list) else [value]
    named = [_named(entry) for entry in entries]
    return _calls([entry for entry in named if entry is not None]) if named and None not in named else None


def read_python(name: str | None, text: str, tools: KnownTools) -> list[ReadCall] | None:
    """Read `[name(key=value, …), …]`; JSON's words for constants are taken, too."""
    del name, tools
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        elements = tree.elts if isinstance(tree, ast.List) else [tree]
        return _calls([_python_call(each) for each in elements]) if elements else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


_FUNCTION = re.compile(r"\s*<function=([^>\n]+)>(.*?)</function>", re.DOTALL)
_PARAMETER = re.compile(r"\s*<parameter=([^>\n]+)>(.*?)</parameter>", re.DOTALL)


def read_parameters(name: str | None, text: str, tools: KnownTools) -> list[ReadCall] | None:
    """Read `<function=name>`, with a tagged text for each parameter; what its schema calls no string is JSON."""
    del name
    calls: list[tuple[str, JsonValue]] = []
    at = 0
    while (function := _FUNCTION.match(text, at)) is not None:
        at = function.end()
        called, body, within = function[1].strip(), function[2], 0
        arguments: dict[str, Any] = {}
        while (parameter := _PARAMETER.match(body, within)) is not None:
            within = parameter.end()
            value = parameter[2].removeprefix("\n").removesuffix("\n")
            arguments[parameter[1].strip()] = _typed(value, called, parameter[1].strip(), tools)
        if body[within:].strip():
            return None
        calls.append((called, arguments))
    return _calls(calls) if calls and not text[at:].strip() else None


_FIELD_CALL = re.compile(r"\s*([\w.\-]+)\s*(\{.*\})\s*", re.DOTALL)
_FIELD_STRING = re.compile(r"<escape>(.*?)<escape>|<\|\"\|>(.*?)<\|\"\|>|(\"(?:[^\"\\]|\\.)*\")", re.DOTALL)
_FIELD_KEY = re.compile(r"(?<=[{,])(\s*)([\w.\-]+)(\s*):")


def read_fields(name: str | None, text: str, tools: KnownTools) -> list[ReadCall] | None:
    """Read `name{key:value,…}`, whose strings stand between marks and whose keys have none."""
    del name, tools
    whole = _FIELD_CALL.fullmatch(text)
    if whole is None:
        return None
    strings: list[str] = []

    def keep(match: re.Match[str]) -> str:
        strings.append(match[3] or json.dumps(match[1] if match[1] is not None else match[2], ensure_ascii=False))
        return f'"\x00{len(strings) - 1}"'

    bare = _FIELD_KEY.sub(r'\1"\2"\3:', _FIELD_STRING.sub(keep, whole[2].replace("\x00", "")))
    return _calls([(whole[1], _loads(re.sub(r'"\x00(\d+)"', lambda match: strings[int(match[1])], bare)))])


def _typed(value: str, name: str, key: str, tools: KnownTools) -> JsonValue:
    """Read a parameter's text by the type that its schema gives it."""
    tool = tools.get(name)
    schema = (tool.parameters.get("properties") or {}).get(key) if tool is not None else None
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind == "string" or (isinstance(kind, list) and "string" in kind):
        return value
    read = _loads(value)
    return value if read is _NOT_JSON else read


def _python_call(node: ast.expr) -> tuple[str, dict[str, JsonValue]]:
    """Read a call; to Python a name with a dash is a difference."""
    before = ""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        before, node = ast.unparse(node.left).replace(" - ", "-") + "-", node.right
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("no call with keywords")
    arguments = {keyword.arg: _python_value(keyword.value) for keyword in node.keywords if keyword.arg}
    return before + ast.unparse(node.func), arguments


_CONSTANTS = {"true": True, "false": False, "null": None}


def _python_value(node: ast.expr) -> JsonValue:
    match node:
        case ast.Name(name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.List(elements) | ast.Tuple(elements):
            return [_python_value(each) for each in elements]
        case ast.Dict(keys, values):
            return {str(ast.literal_eval(k)): _python_value(v) for k, v in zip(keys, values, strict=True) if k}
        case _:
            return ast.literal_eval(node)


_NOT_JSON = object()


def _constant(text: str) -> JsonValue:
    raise ValueError(f"{text} is no JSON")


def _loads(text: str) -> JsonValue:
    try:
        return json.loads(text, parse_constant=_constant)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _named(entry: JsonValue) -> tuple[str, JsonValue] | None:
    """Find name and arguments in an object, also in one of OpenAI's."""
    if isinstance(entry, dict) and isinstance(entry.get("function"), dict):
        entry = entry["function"]
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return None
    found = [entry[key] for key in ("arguments", "parameters") if key in entry]
    return (entry["name"], found[0]) if found else None


def _calls(found: list[tuple[str, JsonValue]]) -> list[ReadCall] | None:
    """Write calls down; None where the arguments of one are no JSON object."""
    calls = []
    for name, given in found:
        arguments = _loads(given) if isinstance(given, str) else {} if given is None else given
        if not isinstance(arguments, dict) or (written := _dumps(arguments)) is None:
            return None
        calls.append(ReadCall(name, written))
    return calls


def _dumps(arguments: dict[str, Any]) -> str | None:
    try:
        written = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        written.encode()
    except UnicodeEncodeError:  # half a character, which only an escape can say
        return json.dumps(arguments)
    except (TypeError, ValueError, RecursionError):
        return None
    return written
