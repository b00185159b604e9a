"""What an answer is held to, as llama-server's grammars, and a second look at the answer once it has ended."""

import json
import re
from collections.abc import Iterator
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for

from gateway.engine import Choice, Constraint, Grammar, InvalidRequest, JsonObject, JsonSchema, Regex
from gateway_llamacpp.patterns import to_rule

_OBJECT = {"type": "object"}
_KINDS = {
    JsonObject: "json_object",
    JsonSchema: "json_schema",
    Choice: "choice",
    Regex: "regex",
    Grammar: "grammar",
}
# What llama-server's converter of schemas passes over; an answer could break it.
_NOT_KEPT_WORDS = (
    "not if then else dependentSchemas dependentRequired dependencies patternProperties propertyNames uniqueItems "
    "multipleOf contains minContains maxContains minProperties maxProperties unevaluatedItems unevaluatedProperties "
    "$dynamicRef $recursiveRef"
)
_NOT_KEPT = frozenset(_NOT_KEPT_WORDS.split())
_BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_FORMATS = frozenset({"date", "time", "date-time", "uuid"})
_MOST_NODES = 20_000
_MOST_LETTERS = 50_000
_DEEPEST = 50
_DEFINED = re.compile(r"(?m)^[ \t]*[A-Za-z][\w-]*[ \t]*::=")
# What a bracket of a grammar may stand in without being one, and brackets.
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|\[(?:[^\]\\]|\\.)*\]?|#[^\n]*|([()])')


def to_grammar(constraint: Constraint) -> dict[str, Any]:
    """Return the part of a body that holds an answer to a constraint; raise `InvalidRequest` for one that cannot be."""
    match constraint:
        case JsonObject():
            return {"json_schema": _OBJECT}
        case JsonSchema(schema):
            _check(schema)
            return {"json_schema": schema}
        case Choice(options):
            if not options or not all(options):
                raise InvalidRequest("a choice is one or more texts, none of them empty", param="choice")
            return {"grammar": "root ::= " + " | ".join(map(_quoted, options))}
        case Regex(pattern):
            return {"grammar": f"root ::= {to_rule(pattern)}"}
        case Grammar(text):
            _check_grammar(text)
            return {"grammar": text}


def find_fault(constraint: Constraint, text: str) -> str | None:
    """Say what is wrong with an answer that has ended, in a line that holds nothing of it; None where nothing is.

    A regex or a grammar is not tried again, which may take any time.
    """
    if isinstance(constraint, Regex | Grammar):
        return None
    if isinstance(constraint, Choice):
        return None if text in constraint.options else "it is none of the choices"
    schema = constraint.schema if isinstance(constraint, JsonSchema) else _OBJECT
    try:
        value = json.loads(text)
        fault = next(validator_for(schema)(schema).iter_errors(value), None)
    except RecursionError:
        return "it is nested too deep"
    except ValueError:
        return "it is no JSON"
    return None if fault is None else f"it breaks {fault.validator}"


def kind_of(constraint: Constraint) -> str:
    """Return the name by which requests ask for a constraint."""
    return _KINDS[type(constraint)]


def _check(schema: dict[str, Any]) -> None:
    """Raise `InvalidRequest` for a schema that is none, or asks for what no grammar of the server's keeps."""
    try:
        validator_for(schema).check_schema(schema)
    except (SchemaError, RecursionError) as error:
        raise InvalidRequest("this is no JSON Schema", param="json_schema") from error
    for number, node in enumerate(nodes(schema)):
        if number > _MOST_NODES:
            raise InvalidRequest("this JSON Schema is too large", param="json_schema")
        keys = sorted(_NOT_KEPT & node.keys())
        if _BOUNDS & node.keys() and node.get("type") != "integer":
            keys += sorted(_BOUNDS & node.keys())
        if "format" in node and node["format"] not in _FORMATS:
            keys.append("format")
        if keys:
            raise InvalidRequest(f"llama-server does not keep {keys[0]!r} of a JSON Schema", param="json_schema")


def _check_grammar(text: str) -> None:
    """Raise `InvalidRequest` for what is no grammar in the form of llama.cpp (GBNF), or too large or deep for it."""
    if len(text) > _MOST_LETTERS:
        raise InvalidRequest(f"a grammar has at most {_MOST_LETTERS} characters", param="grammar")
    if not _DEFINED.search(text):
        raise InvalidRequest("llama-server reads grammars in GBNF: `root ::= …`", param="grammar")
    depth = 0
    for bracket in _BRACKETS.findall(text):
        depth += {"(": 1, ")": -1}.get(bracket, 0)
        if depth > _DEEPEST:
            raise InvalidRequest("the grammar is nested too deep", param="grammar")


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Walk all schemas in a schema; what `properties` and `$defs` hold are names, and `enum` and `const` values."""
    pending: list[object] = [schema]
    while pending:
        match pending.pop():
            case dict(node):
                yield node
                for key, value in node.items():
                    if key in ("properties", "$defs", "definitions") and isinstance(value, dict):
                        pending.extend(value.values())
                    elif key not in ("enum", "const", "default", "examples"):
                        pending.append(value)
            case list(items):
                pending.extend(items)


def _quoted(text: str) -> str:
    """Return a text as a literal of a grammar; all but letters and digits are written by number."""
    plain = (letter if letter.isascii() and letter.isalnum() else _numbered(letter) for letter in text)
    return f'"{"".join(plain)}"'


def _numbered(letter: str) -> str:
    return f"\\U{ord(letter):08x}"
