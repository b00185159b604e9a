"""The configuration: one struct per concern, laid together from a TOML file, `.env`, the environment and flags.

Later layers win; within the environment `LLM_GATEWAY__SERVER__PORT` wins over the plain name `PORT`. Unknown keys are
refused, and every error names the layer and the path at fault. Nothing else in the gateway reads the environment.
"""

import contextlib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import dotenv
import msgspec
from msgspec import Meta, Struct

from gateway.engine import PluginError, load

PREFIX = "LLM_GATEWAY__"
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
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "telemetry.otlp_endpoint",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "telemetry.otlp_protocol",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "telemetry.otlp_protocol",
    "OTEL_SERVICE_NAME": "telemetry.service_name",
}

# The settings that a plain name sets where the engine has such a setting, and a warning where it has none.
_OPTIONAL = {PLAIN[name]: name for name in ("MODEL_NAME", "DEVICE")}
_HANDOVER = "LLM_GATEWAY_HANDOVER"

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Tree = dict[str, Any]


class ConfigError(Exception):
    """The configuration cannot be used; the message says what is wrong, and where."""


class ServerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[server]`: where to listen, and what every request must keep to."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65_535)] = 8000
    workers: int = 1
    drain_seconds: Annotated[float, Meta(ge=0, le=3_600)] = 30.0
    request_seconds: Seconds = 600.0
    max_body_bytes: Annotated[int, Meta(ge=1_024)] = 4 * 1024 * 1024
    body_seconds: Seconds = 10.0
    idle_seconds: Annotated[int, Meta(ge=1, le=60)] = 15
    ping_seconds: Seconds = 15.0
    stall_seconds: Seconds = 20.0
    allowed_hosts: tuple[str, ...] = ()
    strict: bool = False
    docs: bool = True


class CorsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[cors]`: which web pages may call; closed where `origins` is empty."""

    origins: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("GET", "POST")
    headers: tuple[str, ...] = ("authorization", "content-type", "traceparent", "x-api-key")
    credentials: bool = False
    max_age: Annotated[int, Meta(ge=0, le=86_400)] = 600


class GenerateSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[generate]`: defaults of `/v1/generate`, never caps."""

    max_length: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None


class TelemetrySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[telemetry]`: logs, metrics and traces."""

    log_level: Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["auto", "json", "text"] = "auto"
    metrics_enabled: bool = True
    otlp_endpoint: str | None = None
    otlp_protocol: Literal["grpc", "http/protobuf"] = "http/protobuf"
    service_name: str = "llm-gateway"


class EngineSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[engines.NAME]`: the plugin that runs, and the plugin's own settings."""

    plugin: str = "hf"
    settings: dict[str, Any] = {}


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration. The first engine is the one that answers where a request names no model."""

    server: ServerSettings = ServerSettings()
    cors: CorsSettings = CorsSettings()
    generate: GenerateSettings = GenerateSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    engines: dict[str, EngineSettings] = msgspec.field(default_factory=lambda: {DEFAULT_ENGINE: EngineSettings()})
    warnings: tuple[str, ...] = ()


def read(file: str | None = None, flags: Mapping[str, str | None] | None = None) -> Config:
    """Read all layers; `flags` maps paths like `server.port` to texts. Raise `ConfigError`."""
    tree: Tree = {}
    origin: dict[str, str] = {}
    file = file or os.environ.get("LLM_GATEWAY_CONFIG") or None
    layers = [
        *([(file, _parse(Path(file)))] if file else []),
        *((f".env: {name}", pair) for name, pair in _environment(dotenv.dotenv_values(".env"))),
        *_environment(os.environ),
        *((f"the flag for {path}", _nest(path, value)) for path, value in (flags or {}).items() if value is not None),
    ]
    for name, layer in layers:
        _merge(tree, layer, origin, name)
    if os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        _merge(tree, {"telemetry": {"otlp_endpoint": None}}, origin, "OTEL_TRACES_EXPORTER")
    _default_engine(tree)
    return _checked(tree, origin)


def hand_over(config: Config) -> None:
    """Leave the configuration for the worker process, which takes it with `take_over`."""
    os.environ[_HANDOVER] = msgspec.json.encode(config).decode()


def take_over() -> Config:
    """Take what `hand_over` left; without that, read all layers."""
    text = os.environ.get(_HANDOVER)
    return msgspec.json.decode(text, type=Config) if text else read()


def _parse(file: Path) -> Tree:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error


def _environment(variables: Mapping[str, str | None]) -> Iterator[tuple[str, Tree]]:
    """Yield one layer a variable; an empty value is no value."""
    for name, path in PLAIN.items():
        if value := variables.get(name):
            yield name, _nest(path, value)
    for name, value in variables.items():
        if name.startswith(PREFIX) and value:
            yield name, _nest(name.removeprefix(PREFIX).lower().replace("__", "."), value)


def _nest(path: str, value: str) -> Tree:
    """Make `{"server": {"port": "1"}}` of `server.port` and `1`; lists and tables are written as JSON."""
    tree: Any = value
    if value.startswith(("[", "{")):
        with contextlib.suppress(msgspec.DecodeError):
            tree = msgspec.json.decode(value)
    if path == PLAIN["LOG_LEVEL"]:
        tree = value.upper()
    for key in reversed(path.split(".")):
        tree = {key: tree}
    return dict(tree)


def _merge(into: Tree, layer: Tree, origin: dict[str, str], name: str, path: str = "$") -> None:
    for key, value in layer.items():
        here = f"{path}.{key}"
        origin[here] = name
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value, origin, name, here)
        elif isinstance(value, dict):
            into[key] = {}
            _merge(into[key], value, origin, name, here)
        else:
            into[key] = value


def _default_engine(tree: Tree) -> None:
    """Keep the plain names' engine first; where a file names other engines only, do not add one to them."""
    engines = tree.setdefault("engines", {DEFAULT_ENGINE: {}})
    if isinstance(engines, dict) and DEFAULT_ENGINE in engines:
        tree["engines"] = {DEFAULT_ENGINE: engines[DEFAULT_ENGINE]} | engines


def _checked(tree: Tree, origin: Mapping[str, str]) -> Config:
    try:
        config = msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(_located(str(error), origin)) from error
    problem = _contradiction(config)
    if problem:
        raise ConfigError(problem)
    warnings: list[str] = []
    engines = {
        name: msgspec.structs.replace(engine, settings=_engine_settings(name, engine, origin, warnings))
        for name, engine in config.engines.items()
    }
    return msgspec.structs.replace(config, engines=engines, warnings=tuple(warnings))


def _contradiction(config: Config) -> str | None:
    """Say what no single field can say."""
    if config.server.workers != 1:
        return (
            f"server.workers: {config.server.workers} is refused: one worker a process keeps the metrics true and"
            " the batch whole; run more replicas to scale"
        )
    if config.warnings:
        return "warnings: there is no such setting"
    if not config.engines:
        return "engines: at least one engine is needed"
    if config.cors.credentials and "*" in config.cors.origins:
        return "cors.credentials: credentials cannot be allowed to every origin; name the origins"
    bad = next((name for name in config.engines if not name.isidentifier()), None)
    return f"engines: {bad!r} is no name for an engine; use letters, digits and _" if bad is not None else None


def _engine_settings(name: str, engine: EngineSettings, origin: Mapping[str, str], warnings: list[str]) -> Tree:
    """Convert one engine's table to its plugin's settings and back, so that it is checked and complete."""
    try:
        plugin = load(engine.plugin)
    except PluginError as error:
        raise ConfigError(_located(f"{error} - at `$.engines.{name}.plugin`", origin)) from error
    known = {field.encode_name for field in msgspec.structs.fields(plugin.settings)}
    settings = dict(engine.settings)
    for path, variable in _OPTIONAL.items():
        *_, owner, _, key = path.split(".")
        foreign = owner == name and key in settings and key not in known
        if foreign and origin.get(f"$.{path}", "").endswith(variable):
            warnings.append(f"{variable} is ignored: the engine plugin {engine.plugin!r} has no setting {key!r}")
            del settings[key]
    if "cache_folder" in known and (home := os.environ.get("XDG_CACHE_HOME")):
        settings.setdefault("cache_folder", str(Path(home, "llm-gateway")))
    try:
        return dict(msgspec.to_builtins(msgspec.convert(settings, plugin.settings, strict=False)))
    except msgspec.ValidationError as error:
        inner = str(error).replace("`$", f"`$.engines.{name}.settings")
        if "`$" not in inner:
            inner += f" - at `$.engines.{name}.settings`"
        raise ConfigError(_located(inner, origin)) from error


def _located(message: str, origin: Mapping[str, str]) -> str:
    """Turn msgspec's `... - at `$.server.port`` into `ORIGIN: server.port: ...`."""
    what, _, path = message.partition(" - at ")
    path = path.strip("`").replace("[...]", "") or "$"
    unknown = what.removeprefix("Object contains unknown field `")
    if unknown != what:
        what, path = "there is no such setting", f"{path}.{unknown.rstrip('`')}"
    layer = next((origin[prefix] for prefix in _prefixes(path) if prefix in origin), "the configuration")
    return f"{layer}: {path.removeprefix('$').removeprefix('.') or 'the whole'}: {what[:1].lower()}{what[1:]}"


def _prefixes(path: str) -> Iterable[str]:
    """Yield `$.a.b[0]`, `$.a.b`, `$.a`."""
    while path not in ("", "$"):
        yield path
        path = path[: max(path.rfind("."), path.rfind("["))]
