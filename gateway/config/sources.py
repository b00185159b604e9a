"""The sources of the configuration: a TOML file, `.env`, the environment and flags, in this order.

Within the environment `LLM_GATEWAY__SERVER__PORT` wins over the plain name `PORT`. Nothing else in the gateway reads
the environment.
"""

import contextlib
import io
import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import dotenv
import msgspec
from dotenv.parser import Binding, parse_stream

from gateway.config.layers import ConfigError, Layers, Table, TextValue
from gateway.config.schema import DEFAULT_ENGINE
from gateway.config.spelling import meant, near_misses
from gateway.config.standard import without_empty

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

# The flags that take no value.
SWITCHES = frozenset({"--insecure-no-auth"})

FILE = "LLM_GATEWAY_CONFIG"
API_KEY = "LLM_GATEWAY_API_KEY"
HANDOVER = "LLM_GATEWAY_HANDOVER"
PREFIX = "LLM_GATEWAY__"
_OURS = "LLM_GATEWAY_"

# Other programs use the plain names too, so an error says that the value came from the environment.
IN_ENVIRONMENT = " in the environment"

# Kubernetes sets this variable, and others like it, if a service is named llm-gateway.
_LINKED = "LLM_GATEWAY_SERVICE_HOST"
_DOTENV = Path(".env")


def collect(file: str | None, flags: Mapping[str, str | None], settings: Collection[str]) -> Layers:
    """Read all layers. `flags` maps paths to texts; `settings` lists all paths, for suggestions."""
    layers = Layers()
    written = _dotenv()
    if file := file or variable(FILE):
        layers.lay(file, _parse(Path(file)))
    for source, variables in ((f"{_DOTENV}: ", written), ("", os.environ)):
        for name, layer in _variables(source, variables, settings):
            layers.lay(source + name, layer)
    flag_of = {path: flag for flag, path in FLAGS.items()}
    for path, value in flags.items():
        if value is not None:
            layers.lay(flag_of.get(path, path), _nest(path, value))
    _silence(layers, {**written, **os.environ})
    return layers


def api_key() -> str | None:
    """Return the API key that the client commands send; it is not a setting of the service."""
    return variable(API_KEY)


def environment() -> dict[str, str]:
    """Copy the environment for a child process, which must not import from the current folder.

    Empty variables of OpenTelemetry's standard are left out, since its library stumbles over some of them.
    An empty entry of PYTHONPATH means the current folder; `$PYTHONPATH:/lib` makes one if the variable was not set.
    """
    copied = without_empty(os.environ) | {"PYTHONSAFEPATH": "1"}
    if folders := copied.get("PYTHONPATH"):
        copied["PYTHONPATH"] = os.pathsep.join(filter(None, folders.split(os.pathsep)))
    return copied


def variable(name: str) -> str | None:
    """Return a variable that is not a setting, from the environment or `.env`."""
    return os.environ.get(name) or _dotenv().get(name)


def command() -> str:
    """Return the command that started this program, for messages that tell the user what to run."""
    return "uv run llm-gateway" if "UV_RUN_RECURSION_DEPTH" in os.environ else "llm-gateway"


def is_completing() -> bool:
    """Tell whether a shell asks for completions, as argcomplete's variable says."""
    return "_ARGCOMPLETE" in os.environ


def has_colors() -> bool:
    """Tell whether a terminal may get colours: not where NO_COLOR is set (no-color.org), nor on a dumb one."""
    return not os.environ.get("NO_COLOR") and not is_dumb()


def is_dumb() -> bool:
    """Tell whether the terminal can do nothing but print lines."""
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")


def unread() -> list[str]:
    """Return a warning for each variable that is not read but resembles one that is."""
    return [
        f"{source}{name} is ignored: there is no such name; write {right}"
        for source, variables in ((f"{_DOTENV}: ", _dotenv()), ("", os.environ))
        for name, right in near_misses(variables, PLAIN, PREFIX)
    ]


def _parse(file: Path) -> Table:
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
    """Return the line number of a binding; the parser counts the blank lines before it as part of it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _variables(source: str, variables: Mapping[str, str], settings: Collection[str]) -> Iterator[tuple[str, Table]]:
    """Yield one layer for each variable with a value that is not empty."""
    for name, path in PLAIN.items():
        if value := variables.get(name):
            yield name if source else f"{name}{IN_ENVIRONMENT}", _nest(path, value)
    for name, value in variables.items():
        if not name.startswith(_OURS) or not value or name in (FILE, API_KEY, HANDOVER):
            continue
        if name.startswith(PREFIX):
            yield name, _nest(name.removeprefix(PREFIX).lower().replace("__", "."), value)
        elif _LINKED not in variables:
            raise ConfigError(f"{source}{name}: there is no such name; {_respelt(name, settings)}")


def _respelt(name: str, settings: Collection[str]) -> str:
    """Return advice on the name that was probably meant."""
    word = name.removeprefix(_OURS)
    if word in PLAIN:
        return f"write {word} or {_long(PLAIN[word])}"
    if right := meant(name, (FILE, API_KEY)):
        return f"write {right}"
    if path := meant(word, settings):
        return f"write {_long(path)}"
    return f"a setting is written {PREFIX}SECTION__KEY"


def _long(path: str) -> str:
    return PREFIX + path.replace(".", "__").upper()


def _silence(layers: Layers, variables: Mapping[str, str]) -> None:
    """Remove the trace endpoints if OpenTelemetry's own variables switch tracing off."""
    for name, off in (("OTEL_TRACES_EXPORTER", "none"), ("OTEL_SDK_DISABLED", "true")):
        if variables.get(name, "").strip().lower() == off:
            layers.lay(name, {"telemetry": {"otlp_endpoint": None, "otlp_traces_endpoint": None}})


def _nest(path: str, value: str) -> Table:
    """Make `{"server": {"port": "1"}}` of `server.port` and `1`; lists and tables are written as JSON."""
    tree: Any = TextValue(value.upper() if path == PLAIN["LOG_LEVEL"] else value)
    if value.startswith(("[", "{")):
        with contextlib.suppress(msgspec.DecodeError):
            tree = msgspec.json.decode(value)
    for key in reversed(path.split(".")):
        tree = {key: tree}
    return dict(tree)
