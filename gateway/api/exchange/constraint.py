"""From the words for the shape of an answer to the one constraint that the engine gets, and back in errors; pure."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from operator import attrgetter
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.api.exchange.schema_limits import check_schema
from gateway.api.exchange.shape import MOST_CHARACTERS, ResponseFormat, ShapedBody, StructuredOutputs
from gateway.engine import (
    Capability,
    Choice,
    Constraint,
    EngineError,
    Finished,
    FinishReason,
    Grammar,
    InvalidRequest,
    JsonObject,
    JsonSchema,
    Regex,
    Unsupported,
)

Structured = Literal["valid", "truncated"]
StructuredAnswer = Annotated[
    Structured | UnsetType,
    Meta(
        description="Only where the answer is held to a shape: whether it has all of it, or was cut off.",
        examples=["valid"],
    ),
]
AskedShape = tuple[str, Constraint]

# A part of a word has its path.
SHAPE_NEEDS = {
    "response_format.json_object": Capability.JSON_OBJECT,
    "response_format.json_schema": Capability.JSON_SCHEMA,
    "structured_outputs.json": Capability.JSON_SCHEMA,
    "structured_outputs.json_object": Capability.JSON_OBJECT,
    "structured_outputs.regex": Capability.REGEX,
    "structured_outputs.choice": Capability.CHOICE,
    "structured_outputs.grammar": Capability.GRAMMAR,
    "guided_json": Capability.JSON_SCHEMA,
    "guided_json_object": Capability.JSON_OBJECT,
    "guided_regex": Capability.REGEX,
    "guided_choice": Capability.CHOICE,
    "guided_grammar": Capability.GRAMMAR,
    "grammar": Capability.GRAMMAR,
    "ebnf": Capability.GRAMMAR,
    "json_schema": Capability.JSON_SCHEMA,
    "regex": Capability.REGEX,
    "format.json": Capability.JSON_OBJECT,
    "format.schema": Capability.JSON_SCHEMA,
}
SHAPE_TAKEN = ("structured_outputs.disable_fallback",)
# How JSON is spaced and which properties it may have is said by the schema alone.
SHAPE_REFUSED = (
    "structured_outputs.disable_any_whitespace",
    "structured_outputs.disable_additional_properties",
    "structured_outputs.whitespace_pattern",
    "structured_outputs.structural_tag",
)
_KINDS = frozenset(SHAPE_NEEDS.values())
_CUT = frozenset({FinishReason.LENGTH, FinishReason.DEADLINE})


def to_constraint(body: ShapedBody) -> Constraint | None:
    """Return what the answer is held to; `None` where any text will do.

    Raises `InvalidRequest` for words that contradict each other, and for a schema beyond the limits.
    """
    return _find_shape(body)[1]


def reword_shape(error: EngineError, body: ShapedBody) -> bool:
    """Name the word of the body in an engine's error about its constraint; tell whether the error is about one."""
    if error.param not in _KINDS:
        return False
    with suppress(InvalidRequest):  # a word that is wrong by itself has been named
        path, constraint = _find_shape(body)
        if constraint is None:
            return False
        error.param = path.partition(".")[0] if isinstance(error, Unsupported) else path
    return True


def structured_of(finished: Finished) -> Structured | UnsetType:
    """Tell whether an answer that was held to a shape has all of it; unset where it calls a tool instead.

    An engine says `stop` only of an answer that keeps to its constraint; a stop text or token cuts one off anywhere.
    """
    if finished.reason is FinishReason.TOOL_CALLS:
        return UNSET
    return "truncated" if finished.reason in _CUT or finished.stop is not None else "valid"


def structured_headers(endings: Iterable[Finished]) -> dict[str, str]:
    """Tell of whole answers that were held to a shape whether all have all of it."""
    found = {structured_of(finished) for finished in endings} - {UNSET}
    return {"x-structured": "truncated" if "truncated" in found else "valid"} if found else {}


def schema_of(schema: dict[str, Any], path: str) -> JsonSchema:
    """Make the constraint of a JSON Schema; raise `InvalidRequest` for one beyond the limits."""
    check_schema(schema, path)
    return JsonSchema(schema)


def _find_shape(body: ShapedBody) -> tuple[str, Constraint | None]:
    values = _words(body)
    if values == _NO_WORDS:
        return "", None
    pairs = zip(_READERS.items(), cast("tuple[object, ...]", values), strict=True)
    found = [shape for (word, read), value in pairs if value is not None for shape in read(value, word)]
    if not found:
        return "", None
    if any(isinstance(each, JsonSchema) and each.schema.get("type") == "object" for _, each in found):
        # As llama.cpp has it: a schema of objects says more of the object that another word asks for.
        found = [shape for shape in found if not isinstance(shape[1], JsonObject)]
    (path, first), *others = found
    for other, constraint in others:
        if constraint != first:
            raise InvalidRequest(
                f"{path} and {other} ask for different shapes of the answer; give one of them",
                param=other.partition(".")[0],
            )
    return path, first


def _read_format(wanted: ResponseFormat, path: str) -> Iterator[AskedShape]:
    inner = wanted.json_schema
    if wanted.type == "text":
        return
    if wanted.schema is not None:
        if inner is not None:
            raise InvalidRequest(f"give {path}.schema or {path}.json_schema, not both", param=f"{path}.schema")
        yield from _read_schema(wanted.schema, f"{path}.schema")
    elif wanted.type == "json_object":
        yield f"{path}.json_object", JsonObject()
    elif inner is None:
        raise InvalidRequest(f"{path}.json_schema: this field is required", param=f"{path}.json_schema")
    else:
        yield from _read_schema(inner.schema or {}, f"{path}.json_schema.schema")


def _read_structured(wanted: StructuredOutputs, path: str) -> Iterator[AskedShape]:
    for refused in SHAPE_REFUSED:
        if getattr(wanted, refused.partition(".")[2]) not in (None, False):
            raise Unsupported(f"{refused} is not supported here", param=refused)
    values = ((word, getattr(wanted, word)) for word in _PARTS)
    found = [shape for word, value in values if value is not None for shape in _PARTS[word](value, f"{path}.{word}")]
    if len(found) != 1:
        raise InvalidRequest(f"{path}: exactly one shape is expected; these are {len(found)}", param=path)
    yield from found


def _read_schema(value: dict[str, Any] | str, path: str) -> Iterator[AskedShape]:
    if isinstance(value, str):
        if not value:
            return
        value = _parse(value, path)
    yield path, schema_of(value, path)


def _parse(text: str, path: str) -> dict[str, Any]:
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequest(f"{path}: the text is no JSON Schema: {error}", param=path) from error


def _read_object(value: bool, path: str) -> Iterator[AskedShape]:  # noqa: FBT001 - one signature for all readers
    if value:
        yield path, JsonObject()


def _read_ollama(value: dict[str, Any] | str, path: str) -> Iterator[AskedShape]:
    if isinstance(value, dict):
        yield from _read_schema(value, path)
    elif value:
        yield path, JsonObject()


def _read_regex(value: str, path: str) -> Iterator[AskedShape]:
    if value:
        yield path, Regex(value)


def _read_grammar(value: str, path: str) -> Iterator[AskedShape]:
    if value:
        yield path, Grammar(value)


def _read_choice(value: tuple[str, ...], path: str) -> Iterator[AskedShape]:
    size = sum(map(len, value))
    if size > MOST_CHARACTERS:
        raise InvalidRequest(f"{path}: {size} characters; {MOST_CHARACTERS} are the most", param=path)
    yield path, Choice(value)


_decoder = msgspec.json.Decoder(dict[str, Any])
_Reader = Callable[[Any, str], Iterator[AskedShape]]
_PARTS: dict[str, _Reader] = {
    "json": _read_schema,
    "json_object": _read_object,
    "regex": _read_regex,
    "choice": _read_choice,
    "grammar": _read_grammar,
}
_READERS: dict[str, _Reader] = {
    "response_format": _read_format,
    "structured_outputs": _read_structured,
    "guided_json": _read_schema,
    "guided_json_object": _read_object,
    "guided_regex": _read_regex,
    "guided_choice": _read_choice,
    "guided_grammar": _read_grammar,
    "grammar": _read_grammar,
    "ebnf": _read_grammar,
    "json_schema": _read_schema,
    "regex": _read_regex,
    "format": _read_ollama,
}
_words = attrgetter(*_READERS)
_NO_WORDS = (None,) * len(_READERS)
