"""The layers of a configuration, laid together: later ones win.

Every value remembers its layer, so that an error can name it. A text (from a variable or a flag) is converted to its
setting's type; a file's value has a type already, and must have the right one.
"""

import enum
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Struct

from gateway.config.spelling import meant

_BAD_ENUM = "Invalid enum value"
_UNKNOWN = "Object contains unknown field `"

S = TypeVar("S", bound=Struct)
Table = dict[str, Any]


class ConfigError(Exception):
    """The configuration cannot be used; the message says what is wrong, and where."""


class TextValue(str):
    """A text whose type depends on the setting that it is for."""

    __slots__ = ()


class Layers:
    """The merged values as one tree, and the layer that each of them came from."""

    def __init__(self) -> None:
        self.tree: Table = {}
        self._origin: dict[str, str] = {}

    def lay(self, name: str, layer: Table) -> None:
        """Merge `layer` over what is there; `name` is what errors call it."""
        self._merge(self.tree, layer, name, "$")

    def origin(self, path: str) -> str:
        """Return the name of the layer that set `server.port`, or its section."""
        return next((self._origin[part] for part in _prefixes(f"$.{path}") if part in self._origin), "the default")

    def convert(self, tree: object, kind: type[S], path: str = "$") -> S:
        """Convert `tree`, which is at `path`, to a `kind`; raise `ConfigError`."""
        try:
            return msgspec.convert(_typed(tree, kind, "$"), kind)
        except msgspec.ValidationError as error:
            what, _, inner = str(error).partition(" - at ")
            inner = _named(inner.strip("`").removeprefix("$"), tree, kind)
            if what.startswith(_BAD_ENUM):
                what += f"; it is one of {', '.join(map(repr, _choices(_found(kind, inner))))}"
            elif what.startswith(_UNKNOWN):
                unknown = what.removeprefix(_UNKNOWN).rstrip("`")
                right = meant(unknown, _fields(_found(kind, inner)))
                what = "there is no such setting" + (
                    f"; did you mean {_shown(f'{path}{inner}.{right}')}?" if right else ""
                )
                inner = f"{inner}.{unknown}"
            raise self.error(path + inner, what) from error

    def error(self, path: str, what: str) -> ConfigError:
        """Return an error that names the layer and the path, as in `$.server.port`."""
        shown = _shown(path)
        return ConfigError(f"{self.origin(shown)}: {shown or 'the whole'}: {what[:1].lower()}{what[1:]}")

    def _merge(self, into: Table, layer: Table, name: str, path: str) -> None:
        for key, value in layer.items():
            here = f"{path}.{key}"
            self._origin[here] = name
            if not isinstance(value, dict):
                into[key] = value
                continue
            if not isinstance(into.get(key), dict):
                into[key] = {}
            self._merge(into[key], value, name, here)


def _typed(value: object, kind: object, path: str) -> object:
    """Convert the texts in `value` to the types that `kind` gives them; texts without a type stay."""
    if isinstance(value, dict):
        return {key: _typed(item, _inside(kind, key), f"{path}.{key}") for key, item in value.items()}
    if not isinstance(value, TextValue) or kind is Any:
        return value
    try:
        return msgspec.to_builtins(msgspec.convert(str(value), kind, strict=False))
    except msgspec.ValidationError as error:
        what, _, _ = str(error).partition(" - at ")
        raise msgspec.ValidationError(f"{what} - at `{path}`") from error


def _named(path: str, value: object, kind: object) -> str:
    """Replace `[...]` in `.engines[...].plugin` by the first key of the table whose value is wrong."""
    before, is_table, after = path.partition("[...]")
    if not is_table:
        return path
    for key in before.split(".")[1:]:
        value, kind = value[key] if isinstance(value, dict) else None, _inside(kind, key)
    for key, item in value.items() if isinstance(value, dict) else ():
        try:
            msgspec.convert(_typed(item, _inside(kind, key), "$"), _inside(kind, key))
        except msgspec.ValidationError:
            return f"{before}.{key}{after}"
    return before + after


def _found(kind: object, path: str) -> object:
    """Return the type at the path `.server.port` of `kind`."""
    for key in path.split(".")[1:]:
        kind = _inside(kind, key.partition("[")[0])
    return kind


def _inside(kind: object, key: str) -> object:
    """Return the type of a struct's field or a table's values; `Any` if there is none."""
    for option in _options(kind):
        if isinstance(option, type) and issubclass(option, Struct):
            return next((field.type for field in msgspec.structs.fields(option) if field.encode_name == key), Any)
        if get_origin(option) is dict:
            return get_args(option)[1]
    return Any


def _fields(kind: object) -> Iterator[str]:
    """Yield the names of a struct's fields, with those of nested structs as `server.port`."""
    for option in _options(kind):
        if isinstance(option, type) and issubclass(option, Struct):
            for field in msgspec.structs.fields(option):
                yield field.encode_name
                yield from (f"{field.encode_name}.{inner}" for inner in _fields(field.type))


def _shown(path: str) -> str:
    return path.removeprefix("$").removeprefix(".")


def _choices(kind: object) -> Iterator[object]:
    """Yield the values of an enumeration."""
    for option in _options(kind):
        if get_origin(option) is Literal:
            yield from get_args(option)
        elif isinstance(option, type) and issubclass(option, enum.Enum):
            yield from (member.value for member in option)
        else:
            for inner in get_args(option):
                yield from _choices(inner)


def _options(kind: object) -> Iterator[object]:
    """Yield the members of a union, without annotations."""
    if get_origin(kind) is Annotated:
        yield from _options(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for option in get_args(kind):
            yield from _options(option)
    else:
        yield kind


def _prefixes(path: str) -> Iterable[str]:
    """Yield `$.a.b[0]`, `$.a.b`, `$.a`."""
    while path not in ("", "$"):
        yield path
        path = path[: max(path.rfind("."), path.rfind("["))]
