"""Check a finished answer against what it is held to, apart from the way in which it was made."""

import json
from typing import Any

from jsonschema.exceptions import ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from gateway.engine import Choice, Constraint, Grammar, JsonObject, JsonSchema, Regex
from gateway_hf.constrain.grammars import LIMITS
from gateway_hf.constrain.schema import validator_of, written

_END = 256


class _ByteTokens:
    """A vocabulary of bytes, which every text is made of; its names are the library's."""

    eos_token_id = _END
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(_END)), b"\xff<end>")
    special_token_ids = (_END,)

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


_BYTES = LLTokenizer(TokenizerWrapper(_ByteTokens()), n_vocab=_END + 1, eos_token=_END, slices=[])


def find_fault(constraint: Constraint, text: str) -> str | None:
    """Say what is wrong with a text, in a line that holds nothing of it; None where nothing is.

    A grammar is not looked at here: some of its tokens may have no text.
    """
    match constraint:
        case JsonSchema(schema):
            return _find_json_fault(schema, text)
        case JsonObject():
            return _find_json_fault({"type": "object"}, text)
        case Choice(options):
            return None if text in options else "it is none of the choices"
        case Regex(pattern):
            fits = _fits(LLMatcher.grammar_from_regex(pattern), text)
            return None if fits else "the pattern does not match it as a whole"
        case Grammar():
            return None


def _find_json_fault(schema: dict[str, Any], text: str) -> str | None:
    try:
        value = json.loads(text, parse_constant=_refuse)
        checked = _extended(validator_of(schema))
        fault = best_match(checked(schema).iter_errors(value))
    except RecursionError:
        return "it is nested too deep"
    except ValueError as error:
        return f"it is no JSON: {type(error).__name__}"
    return None if fault is None else f"{written(tuple(fault.absolute_path))} breaks {fault.validator}"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _extended(validator: type[Validator]) -> type[Validator]:
    """Match patterns in time that grows with the text alone, and formats as strictly as answers are made."""
    found: type[Validator] = extend(  # type: ignore[no-untyped-call]
        validator, _KEYWORDS
    )
    return found


def _check_pattern(_: Validator, pattern: str, value: object, __: object) -> Any:  # noqa: ANN401 - the library's own
    if isinstance(value, str) and not _fits_schema({"pattern": pattern}, value):
        yield ValidationError("the pattern does not match")


def _check_format(_: Validator, name: str, value: object, __: object) -> Any:  # noqa: ANN401 - as above
    if isinstance(value, str) and not _fits_schema({"format": name}, value):
        yield ValidationError("the format is another")


def _check_names(validator: Any, patterns: dict[str, Any], value: object, _: object) -> Any:  # noqa: ANN401 - as above
    if not isinstance(value, dict):
        return
    for pattern, schema in patterns.items():
        for name, each in value.items():
            if _fits_schema({"pattern": pattern}, name):
                yield from validator.descend(each, schema, path=name, schema_path=pattern)


def _check_others(validator: Any, others: object, value: object, schema: dict[str, Any]) -> Any:  # noqa: ANN401 - as above
    if not isinstance(value, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, each in value.items():
        if name not in known and not any(_fits_schema({"pattern": pattern}, name) for pattern in patterns):
            if others is False:
                yield ValidationError("the name is none of those that may be")
            else:
                yield from validator.descend(each, others, path=name)


_KEYWORDS = {
    "additionalProperties": _check_others,
    "format": _check_format,
    "pattern": _check_pattern,
    "patternProperties": _check_names,
}


def _fits_schema(schema: dict[str, str], value: str) -> bool:
    """Match a string as llguidance reads patterns and formats."""
    return _fits(
        LLMatcher.grammar_from_json_schema({"type": "string", **schema}), json.dumps(value, ensure_ascii=False)
    )


def _fits(grammar: str, text: str) -> bool:
    """Match a whole text, in time that grows with its length and not with its ambiguity."""
    matcher = LLMatcher(_BYTES, grammar, log_level=0, limits=LIMITS)
    return matcher.consume_tokens(list(text.encode())) and matcher.is_accepting()
