"""How a script keeps to a constraint: it says what it says, and ends in an error where that is something else."""

import json
import re

from gateway.engine import Choice, Constraint, EngineError, InvalidRequest, JsonObject, Regex, Unsupported


def check_constraint(constraint: Constraint | None) -> None:
    """Raise `InvalidRequest` for a constraint that no script can be held against."""
    match constraint:
        case Regex(pattern):
            try:
                re.compile(pattern)
            except re.error as error:
                raise InvalidRequest(f"the pattern cannot be compiled: {error}", param="regex") from error
        case Choice(options) if not options:
            raise InvalidRequest("there is nothing to choose from", param="choice")
        case None | Choice() | JsonObject():
            pass
        case _:
            kind = str(type(constraint).__struct_config__.tag)
            raise Unsupported("a script is held against no schema and no grammar", param=kind)


def check_kept(constraint: Constraint | None, text: str) -> None:
    """Raise `EngineError` where an answer that has come to its end does not keep to its constraint."""
    match constraint:
        case Choice(options):
            is_kept = text in options
        case Regex(pattern):
            is_kept = re.fullmatch(pattern, text) is not None
        case JsonObject():
            is_kept = _is_object(text)
        case _:
            is_kept = True
    if not is_kept:
        raise EngineError("the script ends outside of the constraint")


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
