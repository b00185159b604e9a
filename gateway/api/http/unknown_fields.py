"""Unknown keys of a body: refused if they are another name of a parameter, else only named.

A key that is meant for another server may be without harm here. One that is misspelled, that another API of the service
knows, or that asks for a shape of the answer is not: without it the answer is another one than was asked for.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import ClassVar

import msgspec
from msgspec import Raw, Struct

from gateway.api.http.problems import Problem
from gateway.api.http.synonyms import ADVICE, MEANT, SHAPES, SYNONYMS

# Of a word with fewer letters most other words are near.
_FEWEST_LETTERS = 5
_MANY_LETTERS = 8
_MOST_LETTERS = 40
# Different unknown names in one body: more than any client sends, and few enough to look for what each was meant to be.
MOST_UNKNOWN = 64
# Values of a shape that ask for none.
_ANY_SHAPE: tuple[object, ...] = (None, False, "", "text", {"type": "text"})


class ApiBody(Struct, frozen=True, kw_only=True):
    """A request body whose parameters the other routes know by name.

    One that asks for no answer may hold what only a generation goes by: clients send the same body to both. The shape
    of an answer is asked for by the parameter `shape`.
    """

    route: ClassVar[str] = ""
    shape: ClassVar[str] = "response_format"
    generates: ClassVar[bool] = True


class UnknownField(Struct, frozen=True):
    """A key that is no field of its object's struct, and the path that leads to it."""

    path: str
    key: str
    kind: type[Struct]
    raw: Raw

    @property
    def value(self) -> object:
        """Its value; one that cannot be read asks for something all the same."""
        try:
            return msgspec.json.decode(self.raw)
        except (msgspec.DecodeError, RecursionError):
            return ...


def refuse_wrong(fields: Iterable[UnknownField]) -> None:
    """Raise `Problem` for the first key that is another name of something; `null` asks for nothing."""
    for field in fields:
        told = _told(field)
        if told is not None and field.value is not None:
            raise Problem("unsupported_parameter", told, param=field.path)


def bounded(fields: Iterable[UnknownField]) -> Iterator[UnknownField]:
    """Yield the keys; raise `Problem` for more than `MOST_UNKNOWN` different ones."""
    names: set[str] = set()
    for field in fields:
        names.add(field.key)
        if len(names) > MOST_UNKNOWN:
            raise Problem("unsupported_parameter", f"the body has more than {MOST_UNKNOWN} different unknown fields")
        yield field


def _told(field: UnknownField) -> str | None:
    """Explain a wrong key, with the right one."""
    key, path, kind = field.key, field.path, field.kind
    if len(key) > _MOST_LETTERS:  # no parameter has so long a name, and none is remembered below
        return None
    if key in SHAPES and (not issubclass(kind, ApiBody) or kind.generates):
        if field.value in _ANY_SHAPE:
            return None
        if issubclass(kind, ApiBody):
            return f"{path} is not a parameter of {kind.route}; the shape of an answer is asked for with {kind.shape}"
        return f"{path} is not supported here: no answer is held to a schema, a pattern or a grammar by it"
    if issubclass(kind, ApiBody) and (told := _instead(field, kind) if key in MEANT else _other_name(key, kind)):
        return f"{path} is not a parameter of {kind.route}; {told}"
    near = _nearest_field(key, kind)
    return f"{path} is not known here; did you mean {path.removesuffix(key)}{near}?" if near else None


def _instead(field: UnknownField, kind: type[ApiBody]) -> str | None:
    """Say what there is in place of a word that would change the answer, unless it asks for nothing."""
    neutral, instead = MEANT[field.key]
    return instead if kind.generates and field.value not in neutral else None


@lru_cache(1_024)
def _nearest_field(key: str, kind: type[Struct]) -> str | None:
    return nearest(key, kind.__struct_encode_fields__)


@lru_cache(1_024)
def _other_name(key: str, kind: type[ApiBody]) -> str | None:
    """Name the parameter that another API's word stands for, or say that there is none."""
    right = next((name for name in SYNONYMS.get(key, ()) if name in kind.__struct_encode_fields__), None)
    if right is not None:
        return f"it is called {right} here"
    if not kind.generates:
        return None
    if key in ADVICE:
        return ADVICE[key]
    other = min(_routes(key), default=None)
    return f"{other} has it, and nothing here is like it" if other else None


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Find the word that another one was meant to be: the same letters, or all but one or two of them."""
    if len(word) > _MOST_LETTERS:
        return None
    letters = _letters(word)
    allowed = 0 if len(letters) < _FEWEST_LETTERS else 1 if len(letters) < _MANY_LETTERS else 2
    like = ((_letters(other), other) for other in words)
    found = min(
        ((_distance(letters, bare), other) for bare, other in like if _may_be_near(letters, bare, allowed)),
        default=None,
    )
    return found[1] if found is not None and found[0] <= allowed else None


def _may_be_near(word: str, other: str, allowed: int) -> bool:
    """Reject most pairs at once: a step adds or drops a letter, or changes one into another."""
    return abs(len(other) - len(word)) <= allowed and len(set(word) ^ set(other)) <= 2 * allowed


@lru_cache(1_024)
def _letters(word: str) -> str:
    return "".join(filter(str.isalnum, word)).lower()


def _distance(word: str, other: str) -> int:
    """Count the letters to add, drop, change or swap with their neighbour (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(word, start=1):
        before, last, row = row, before, [i]
        for j, wanted in enumerate(other, start=1):
            steps = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and word[i - 2] == wanted:
                steps = min(steps, last[j - 2] + 1)
            row.append(steps)
    return row[-1]


def _routes(key: str, kind: type[ApiBody] = ApiBody) -> Iterator[str]:
    """List the routes that generate by a parameter of that name."""
    if kind.route and kind.generates and key in kind.__struct_encode_fields__:
        yield kind.route
    for narrower in kind.__subclasses__():
        yield from _routes(key, narrower)
