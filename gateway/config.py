"""The configuration: one struct per concern, read from the layers of `gateway.layers`, complete and checked.

Within the environment `LLM_GATEWAY__SERVER__PORT` wins over the plain name `PORT`. Unknown keys are refused, and every
error names the layer and the path at fault. Nothing else in the gateway reads the environment.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from gateway import layers
from gateway.engine import PluginError, load
from gateway.layers import DEFAULT_ENGINE, FLAGS, HANDOVER, PLAIN, ConfigError, Layers, Tree

__all__ = [
    "FLAGS",
    "PLAIN",
    "Config",
    "ConfigError",
    "CorsSettings",
    "EngineSettings",
    "GenerateSettings",
    "ServerSettings",
    "TelemetrySettings",
    "command",
    "hand_over",
    "main_process",
    "read",
    "take_over",
]

# The settings that a plain name sets where the engine has such a setting, and a warning where it has none.
_OPTIONAL = {PLAIN[name]: name for name in ("MODEL_NAME", "DEVICE")}

Seconds = Annotated[float, Meta(gt=0, le=86_400)]


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

    @property
    def url(self) -> str:
        """Where a client on this machine finds the service."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - all addresses
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


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
    otlp_traces_endpoint: str | None = None
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


class _Handover(Struct, frozen=True):
    """What the main process leaves for its worker."""

    main: int
    config: Config


def read(file: str | None = None, flags: Mapping[str, str | None] | None = None) -> Config:
    """Read all layers; `flags` maps paths like `server.port` to texts. Raise `ConfigError`."""
    laid = layers.read(file, os.environ, flags or {}, _settings())
    _default_engine(laid.tree)
    config = laid.convert(laid.tree, Config)
    if problem := _contradiction(config):
        path, what = problem
        raise laid.error(f"$.{path}", what)
    warnings: list[str] = []
    engines = {
        name: msgspec.structs.replace(engine, settings=_engine_settings(name, engine, laid, warnings))
        for name, engine in config.engines.items()
    }
    return msgspec.structs.replace(config, engines=engines, warnings=tuple(warnings))


def hand_over(config: Config) -> None:
    """Leave the configuration for the worker process, which takes it with `take_over`."""
    os.environ[HANDOVER] = msgspec.json.encode(_Handover(os.getpid(), config)).decode()
    # It has done its part: no endpoint is left. The worker's SDK would empty the metrics too, which are never sent.
    os.environ.pop("OTEL_SDK_DISABLED", None)


def take_over() -> Config:
    """Take what `hand_over` left; without that, read all layers."""
    found = _handed_over()
    return found.config if found else read()


def main_process() -> int | None:
    """Find the id of the process that handed over; `None` where a foreign server runs the application."""
    found = _handed_over()
    return found.main if found else None


def command() -> str:
    """Say how this program was called, for who shall call it again."""
    return "uv run llm-gateway" if "UV_RUN_RECURSION_DEPTH" in os.environ else "llm-gateway"


def _handed_over() -> _Handover | None:
    text = os.environ.get(HANDOVER)
    return msgspec.json.decode(text, type=_Handover) if text else None


def _settings() -> list[str]:
    """List the paths of all settings but the engines', which have names of their own."""
    sections = [field for field in msgspec.structs.fields(Config) if msgspec.inspect.is_struct_type(field.type)]
    return [f"{section.name}.{field.name}" for section in sections for field in msgspec.structs.fields(section.type)]


def _default_engine(tree: Tree) -> None:
    """Keep the plain names' engine first; where a file names other engines only, do not add one to them."""
    engines = tree.setdefault("engines", {DEFAULT_ENGINE: {}})
    if isinstance(engines, dict) and DEFAULT_ENGINE in engines:
        tree["engines"] = {DEFAULT_ENGINE: engines[DEFAULT_ENGINE]} | engines


def _contradiction(config: Config) -> tuple[str, str] | None:
    """Say what no type can say: the path at fault, and what is wrong with it."""
    if config.server.workers != 1:
        return "server.workers", (
            f"{config.server.workers} is refused: one worker a process keeps the metrics true and the batch whole;"
            " run more replicas to scale"
        )
    if config.warnings:
        return "warnings", "there is no such setting"
    if not config.engines:
        return "engines", "at least one engine is needed"
    if config.cors.credentials and "*" in config.cors.origins:
        return "cors.credentials", "credentials cannot be allowed to every origin; name the origins"
    for key in ("otlp_endpoint", "otlp_traces_endpoint"):
        url = getattr(config.telemetry, key)
        if url is not None and not _is_url(url):
            return f"telemetry.{key}", f"{url!r} is no URL; expected http:// or https:// and a host"
    bad = next((name for name in config.engines if not name.isidentifier()), None)
    return None if bad is None else (f"engines.{bad}", f"{bad!r} is no name for an engine; use letters, digits and _")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number
        return False


def _engine_settings(name: str, engine: EngineSettings, laid: Layers, warnings: list[str]) -> Tree:
    """Convert one engine's table to its plugin's settings and back, so that it is checked and complete."""
    try:
        plugin = load(engine.plugin)
    except PluginError as error:
        raise laid.error(f"$.engines.{name}.plugin", str(error)) from error
    known = {field.encode_name for field in msgspec.structs.fields(plugin.settings)}
    settings = dict(laid.tree["engines"][name].get("settings", {}))
    for path, variable in _OPTIONAL.items():
        *_, owner, _, key = path.split(".")
        foreign = owner == name and key in settings and key not in known
        if foreign and laid.origin(path).removeprefix(".env: ") == variable:
            warnings.append(f"{variable} is ignored: the engine plugin {engine.plugin!r} has no setting {key!r}")
            del settings[key]
    if "cache_folder" in known and (home := os.environ.get("XDG_CACHE_HOME")):
        settings.setdefault("cache_folder", str(Path(home, "llm-gateway")))
    return dict(msgspec.to_builtins(laid.convert(settings, plugin.settings, f"$.engines.{name}.settings")))
