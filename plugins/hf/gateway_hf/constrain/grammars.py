"""From a constraint to a grammar as llguidance reads it; what it cannot be made of is refused by name."""

import json
import re
from typing import TYPE_CHECKING

from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.gbnf_to_lark import gbnf_to_lark

from gateway.engine import Choice, Constraint, Grammar, InvalidRequest, JsonObject, JsonSchema, Regex
from gateway_hf.constrain.schema import Path, blame, check_schema, parts, refuse

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

# What a step may cost: some 20 ms at the most, measured with regexes and grammars made to be slow. Without these bounds
# one mask takes a second, and a grammar's states 500 MB.
LIMITS = LLParserLimits(
    step_lexer_fuel=50_000,
    step_max_items=20_000,
    max_items_in_row=1_000,
    max_lexer_states=50_000,
    verbose_errors=False,
)
# JSON as `json.dumps` writes it: a model that may put blanks anywhere may write them for ever.
_JSON: "JsonCompileOptions" = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "coerce_one_of": False,
    "lenient": False,
}
# What is said better than by llguidance.
_SAID = {"oneOf": "more than one branch may accept the same value, and nothing can tell them apart"}
# Words that only llguidance's own dialect has; all else is GBNF where it defines rules as GBNF does.
_LARK = re.compile(r"(?m)^\s*(?:%|\??start\s*:)")
_GBNF = re.compile(r"(?m)^\s*[\w-]+\s*::=")
_CODE = re.compile(r"\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})")


def param_of(constraint: Constraint) -> str:
    """Return the name of a constraint's capability, by which errors name it."""
    match constraint:
        case JsonSchema():
            return "json_schema"
        case JsonObject():
            return "json_object"
        case Regex():
            return "regex"
        case Choice():
            return "choice"
        case Grammar():
            return "grammar"


def grammar_of(constraint: Constraint) -> str:
    """Write the grammar of a constraint; raise `InvalidRequest` where there is none."""
    match constraint:
        case JsonSchema(schema):
            check_schema(schema)
            return LLMatcher.grammar_from_json_schema(schema, overrides=_JSON)
        case JsonObject():
            return LLMatcher.grammar_from_json_schema({"type": "object"}, overrides=_JSON)
        case Regex(pattern):
            return LLMatcher.grammar_from_regex(pattern)
        case Choice(options):
            return _choice(options)
        case Grammar(text):
            return LLMatcher.grammar_from_lark(_lark(text))


def matcher_of(constraint: Constraint, grammar: str, tokenizer: LLTokenizer) -> LLMatcher:
    """Compile a grammar; raise `InvalidRequest` where it is none, or more than `LIMITS` allow."""
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LIMITS)
    if not matcher.is_error():
        matcher.compute_bitmask()
    if not matcher.is_error():
        return matcher
    message = matcher.get_error()
    if isinstance(constraint, JsonSchema):
        _refuse_patterns(constraint.schema, tokenizer)
        path = blame(constraint.schema, message)
        refuse(path, _SAID.get(str(path[-1]) if path else "", message))
    raise _refusal(constraint, message)


def _choice(options: tuple[str, ...]) -> str:
    """Write options as one terminal: as alternatives of a rule there could be no more than a step may have items."""
    if not options:
        raise InvalidRequest("there is nothing to choose from", param="choice")
    written = " | ".join(json.dumps(option) for option in dict.fromkeys(options))
    return LLMatcher.grammar_from_lark(f"start: OPTION\nOPTION: {written}")


def _lark(text: str) -> str:
    if _LARK.search(text) or not _GBNF.search(text):
        return text
    try:
        return gbnf_to_lark(_CODE.sub(_character, text))
    except RecursionError as error:
        raise InvalidRequest("the grammar is nested too deep", param="grammar") from error
    except Exception as error:  # the converter's errors have no common type
        raise InvalidRequest(f"the grammar is no GBNF: {_line(str(error))}", param="grammar") from error


def _character(code: re.Match[str]) -> str:
    """Write a character for its code, which the converter gets wrong; one with a meaning stays a code of two digits."""
    character = chr(int(code[1] or code[2], 16))
    return f"\\x{ord(character):02x}" if character.isascii() and not character.isalnum() else character


def _refuse_patterns(schema: dict[str, object], tokenizer: LLTokenizer) -> None:
    """Raise `InvalidRequest` for the first pattern of a schema that is no regex by itself."""
    for path, part in parts(schema, ()):
        named: dict[str, Path] = {name: ("patternProperties", name) for name in part.get("patternProperties", ())}
        if "pattern" in part:
            named[part["pattern"]] = ("pattern",)
        for pattern, keyword in named.items():
            if message := _fault(pattern, tokenizer):
                refuse((*path, *keyword), message)


def _fault(pattern: str, tokenizer: LLTokenizer) -> str:
    grammar = LLMatcher.grammar_from_json_schema({"type": "string", "pattern": pattern})
    return LLMatcher(tokenizer, grammar, log_level=0, limits=LIMITS).get_error()


def _refusal(constraint: Constraint, message: str) -> InvalidRequest:
    kind = param_of(constraint)
    return InvalidRequest(f"the {kind} cannot be compiled: {_line(message)}", param=kind)


def _line(message: str) -> str:
    return " ".join(message.replace("<non-verbose/>", "").split())[:300]
