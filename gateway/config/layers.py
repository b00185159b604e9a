"""The layers of a configuration, laid together: a TOML file, `.env`, the environment and flags; later ones win.

Every value remembers its layer, so that an error can name it. What comes as text (a variable, a flag) is converted to
its setting's type; what a file says has a type already, and must have the right one.
"""

import contextlib
import enum
import io
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import dotenv
import msgspec
from dotenv.parser import Binding, parse_stream
from msgspec import Struct

DEFAULT_ENGINE = "default"

# Plain environment names, and where each value goes.
PLAIN = {
    "HOST": "server.host",
    "PORT": "server.port",
    "WORKERS": "server.workers",
    "ENGINE": f"engines.{DEFAULT_ENGINE}.plugin",
    "MODEL_NAME": f"engines.{DEFAULT_ENGINE}.settings.model",
    "DEVICE": f"engines.{DEFAULT_ENGINE}.settings.device",
    "MAX_LENGTH": "generate.max_length",
    "TEMPERATURE": "generate.temperature",
    "LOG_LEVEL": "telemetry.log_level",
    "METRICS_ENABLED": "telemetry.metrics_enabled",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "telemetry.otlp_endpoint",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "telemetry.otlp_traces_endpoint",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "telemetry.otlp_protocol",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "telemetry.otlp_protocol",
    "OTEL_SERVICE_NAME": "telemetry.service_name",
}

# Flags, and where each value goes.
FLAGS = {
    "--host": PLAIN["HOST"],
    "--port": PLAIN["PORT"],
    "--engine": PLAIN["ENGINE"],
    "--model": PLAIN["MODEL_NAME"],
    "--device": PLAIN["DEVICE"],
    "--log-level": PLAIN["LOG_LEVEL"],
    "--insecure-no-auth": "auth.insecure_no_auth",
}

# Those of them that take no value.
SWITCHES = frozenset({"--insecure-no-auth"})

FILE = "LLM_GATEWAY_CONFIG"
API_KEY = "LLM_GATEWAY_API_KEY"
HANDOVER = "LLM_GATEWAY_HANDOVER"
PREFIX = "LLM_GATEWAY__"
_OURS = "LLM_GATEWAY_"

# Kubernetes tells of a service named llm-gateway in this variable and others of its shape.
_LINKED = "LLM_GATEWAY_SERVICE_HOST"
_DOTENV = Path(".env")
_BAD_ENUM = "Invalid enum value"

S = TypeVar("S", bound=Struct)
Tree = dict[str, Any]


class ConfigError(Exception):
    """The configuration cannot be used; the message says what is wrong, and where."""


class TextValue(str):
    """A value that came as text and whose type is yet to be found."""

    __slots__ = ()


class Layers:
    """The values laid together as one tree, and the layer that each of them came from."""

    def __init__(self) -> None:
        self.tree: Tree = {}
        self._origin: dict[str, str] = {}

    def lay(self, name: str, layer: Tree) -> None:
        """Put `layer` on top."""
        self._merge(self.tree, layer, name, "$")

    def origin(self, path: str) -> str:
        """Name the layer that `server.port` came from, or its section did."""
        return next((self._origin[part] for part in _prefixes(f"$.{path}") if part in self._origin), "the default")

    def convert(self, tree: object, kind: type[S], path: str = "$") -> S:
        """Make a `kind` of `tree`, which lies at `path`; raise `ConfigError`."""
        try:
            return msgspec.convert(_typed(tree, kind, "$"), kind)
        except msgspec.ValidationError as error:
            what, _, inner = str(error).partition(" - at ")
            inner = inner.strip("`").replace("[...]", "").removeprefix("$")
            if what.startswith(_BAD_ENUM):
                what += f"; it is one of {', '.join(map(repr, _choices(_found(kind, inner))))}"
            raise self.error(path + inner, what) from error

    def error(self, path: str, what: str) -> ConfigError:
        """Say what is wrong at `$.server.port`, and in which layer."""
        unknown = what.removeprefix("Object contains unknown field `")
        if unknown != what:
            what, path = "there is no such setting", f"{path}.{unknown.rstrip('`')}"
        shown = path.removeprefix("$").removeprefix(".")
        return ConfigError(f"{self.origin(shown)}: {shown or 'the whole'}: {what[:1].lower()}{what[1:]}")

    def _merge(self, into: Tree, layer: Tree, name: str, path: str) -> None:
        for key, value in layer.items():
            here = f"{path}.{key}"
            self._origin[here] = name
            if not isinstance(value, dict):
                into[key] = value
                continue
            if not isinstance(into.get(key), dict):
                into[key] = {}
            self._merge(into[key], value, name, here)


def read(
    file: str | None, environment: Mapping[str, str], flags: Mapping[str, str | None], settings: Collection[str]
) -> Layers:
    """Read all layers. `flags` maps paths to texts; `settings` are all known paths, to correct misspelt names with."""
    layers = Layers()
    written = _dotenv()
    if file := file or variable(FILE, environment):
        layers.lay(file, _parse(Path(file)))
    for source, variables in ((f"{_DOTENV}: ", written), ("", environment)):
        for name, layer in _variables(source, variables, settings):
            layers.lay(source + name, layer)
    flag_of = {path: flag for flag, path in FLAGS.items()}
    for path, value in flags.items():
        if value is not None:
            layers.lay(flag_of.get(path, path), _nest(path, value))
    _silence(layers, {**written, **environment})
    return layers


def variable(name: str, environment: Mapping[str, str]) -> str | None:
    """Find a variable that is no setting, there or in `.env`."""
    return environment.get(name) or _dotenv().get(name)


def _parse(file: Path) -> Tree:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error


def _dotenv() -> dict[str, str]:
    try:
        text = _DOTENV.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{_DOTENV}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{_DOTENV}: {error}") from error
    for binding in parse_stream(io.StringIO(text)):
        if binding.error or (binding.key is not None and binding.value is None):
            raise ConfigError(f"{_DOTENV}: line {_line(binding)}: expected NAME=value")
    return {name: value for name, value in dotenv.dotenv_values(stream=io.StringIO(text)).items() if value}


def _line(binding: Binding) -> int:
    """Count on over the blank lines that the parser takes for a part of what follows them."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _variables(source: str, variables: Mapping[str, str], settings: Collection[str]) -> Iterator[tuple[str, Tree]]:
    """Yield one layer a variable; an empty value is no value."""
    for name, path in PLAIN.items():
        if value := variables.get(name):
            yield name, _nest(path, value)
    for name, value in variables.items():
        if not name.startswith(_OURS) or not value or name in (FILE, API_KEY, HANDOVER):
            continue
        if name.startswith(PREFIX):
            yield name, _nest(name.removeprefix(PREFIX).lower().replace("__", "."), value)
        elif _LINKED not in variables:
            raise ConfigError(f"{source}{name}: there is no such name; {_respelt(name, settings)}")


def _respelt(name: str, settings: Collection[str]) -> str:
    """Say how the name must have been meant."""
    word = name.removeprefix(_OURS)
    if word in PLAIN:
        return f"write {word} or {_long(PLAIN[word])}"
    meant = next((path for path in settings if path.replace(".", "_").upper() == word.replace("__", "_")), None)
    if meant is None:
        return f"a setting is written {PREFIX}SECTION__KEY"
    return f"write {_long(meant)}"


def _long(path: str) -> str:
    return PREFIX + path.replace(".", "__").upper()


def _silence(layers: Layers, variables: Mapping[str, str]) -> None:
    """Send no traces where OpenTelemetry's own switches say so."""
    for name, off in (("OTEL_TRACES_EXPORTER", "none"), ("OTEL_SDK_DISABLED", "true")):
        if variables.get(name, "").strip().lower() == off:
            layers.lay(name, {"telemetry": {"otlp_endpoint": None, "otlp_traces_endpoint": None}})


def _nest(path: str, value: str) -> Tree:
    """Make `{"server": {"port": "1"}}` of `server.port` and `1`; lists and tables are written as JSON."""
    tree: Any = TextValue(value.upper() if path == PLAIN["LOG_LEVEL"] else value)
    if value.startswith(("[", "{")):
        with contextlib.suppress(msgspec.DecodeError):
            tree = msgspec.json.decode(value)
    for key in reversed(path.split(".")):
        tree = {key: tree}
    return dict(tree)


def _typed(value: object, kind: object, path: str) -> object:
    """Convert the texts in `value` to what `kind` says of them; where it says nothing they stay."""
    if isinstance(value, dict):
        return {key: _typed(item, _inside(kind, key), f"{path}.{key}") for key, item in value.items()}
    if not isinstance(value, TextValue) or kind is Any:
        return value
    try:
        return msgspec.to_builtins(msgspec.convert(str(value), kind, strict=False))
    except msgspec.ValidationError as error:
        what, _, _ = str(error).partition(" - at ")
        raise msgspec.ValidationError(f"{what} - at `{path}`") from error


def _found(kind: object, path: str) -> object:
    """Find the type that lies at `.server.port` below `kind`."""
    for key in path.split(".")[1:]:
        kind = _inside(kind, key.partition("[")[0])
    return kind


def _inside(kind: object, key: str) -> object:
    """Find the type of a struct's field or a table's values; `Any` where there is none."""
    for option in _options(kind):
        if isinstance(option, type) and issubclass(option, Struct):
            return next((field.type for field in msgspec.structs.fields(option) if field.encode_name == key), Any)
        if get_origin(option) is dict:
            return get_args(option)[1]
    return Any


def _choices(kind: object) -> Iterator[object]:
    """Yield the values that an enumeration permits."""
    for option in _options(kind):
        if get_origin(option) is Literal:
            yield from get_args(option)
        elif isinstance(option, type) and issubclass(option, enum.Enum):
            yield from (member.value for member in option)
        else:
            for inner in get_args(option):
                yield from _choices(inner)


def _options(kind: object) -> Iterator[object]:
    """Yield the types that a union is made of, without annotations."""
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
