"""The configuration, read: the structs of `gateway.config.schema` from the layers of `gateway.config.layers`.

Within the environment `LLM_GATEWAY__SERVER__PORT` wins over the plain name `PORT`. Unknown keys are refused, and every
error names the layer and the path at fault. Nothing else in the gateway reads the environment.
"""

import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from gateway.auth import KeyFile, KeyFileError
from gateway.cache import CacheSettings
from gateway.config import layers
from gateway.config.layers import API_KEY, DEFAULT_ENGINE, FLAGS, HANDOVER, PLAIN, SWITCHES, ConfigError, Layers, Tree
from gateway.config.schema import (
    AdmissionSettings,
    AuthSettings,
    Config,
    CorsSettings,
    EngineSettings,
    GenerateSettings,
    LimitsSettings,
    ServerSettings,
    TelemetrySettings,
)
from gateway.engine import PluginError, load

__all__ = [
    "FLAGS",
    "PLAIN",
    "SWITCHES",
    "AdmissionSettings",
    "AuthSettings",
    "CacheSettings",
    "Config",
    "ConfigError",
    "CorsSettings",
    "EngineSettings",
    "GenerateSettings",
    "Handover",
    "LimitsSettings",
    "ServerSettings",
    "TelemetrySettings",
    "api_key",
    "command",
    "environment",
    "hand_on",
    "hand_over",
    "handed_over",
    "look",
    "read",
    "take_over",
]

# The settings that a plain name sets where the engine has such a setting, and a warning where it has none.
_OPTIONAL = {PLAIN[name]: name for name in ("MODEL_NAME", "DEVICE")}

# The path of a setting, and what is wrong with it.
Problem = tuple[str, str]

_STORES = ("redis", "rediss", "unix")


class Handover(Struct, frozen=True):
    """What the supervisor leaves for the server, and that for its worker: `giver` is who left it.

    `address` is where to listen, and `control` the path at which the supervisor can be asked.
    """

    giver: int
    config: Config
    address: str
    control: str


def read(file: str | None = None, flags: Mapping[str, str | None] | None = None) -> Config:
    """Read all layers, to serve by; `flags` maps paths like `server.port` to texts. Raise `ConfigError`."""
    config, laid = _read(file, flags)
    _refuse(laid, _openings(config))
    return config


def look(file: str | None = None, flags: Mapping[str, str | None] | None = None) -> Config:
    """Read all layers for who does not serve, and may not read the keys. Raise `ConfigError`."""
    return _read(file, flags)[0]


def api_key() -> str | None:
    """Find the key that the clients of the command line send; it is no setting of the service."""
    return layers.variable(API_KEY, os.environ)


def hand_over(config: Config, *, address: str, control: str) -> None:
    """Leave all that the processes which this one starts must know."""
    os.environ[HANDOVER] = msgspec.json.encode(Handover(os.getpid(), config, address, control)).decode()


def hand_on() -> Handover:
    """Take what the supervisor left, and leave the same for the worker."""
    found = handed_over()
    if found is None:
        raise ConfigError("the server is started by llm-gateway serve")
    hand_over(found.config, address=found.address, control=found.control)
    # It has done its part: no endpoint is left. The worker's SDK would empty the metrics too, which are never sent.
    os.environ.pop("OTEL_SDK_DISABLED", None)
    return found


def take_over() -> Config:
    """Take the configuration that was left; without one, read all layers."""
    found = handed_over()
    return found.config if found else read()


def handed_over() -> Handover | None:
    """Find what the parent process left; `None` where a foreign server runs the application."""
    text = os.environ.get(HANDOVER)
    found = msgspec.json.decode(text, type=Handover) if text else None
    return found if found is not None and found.giver == os.getppid() else None


def environment() -> dict[str, str]:
    """Copy the environment, for what an engine's process may know of it."""
    return dict(os.environ)


def command() -> str:
    """Say how this program was called, for who shall call it again."""
    return "uv run llm-gateway" if "UV_RUN_RECURSION_DEPTH" in os.environ else "llm-gateway"


def _read(file: str | None, flags: Mapping[str, str | None] | None) -> tuple[Config, Layers]:
    laid = layers.read(file, os.environ, flags or {}, _settings())
    _default_engine(laid.tree)
    config = laid.convert(laid.tree, Config)
    _refuse(laid, _contradictions(config))
    warnings: list[str] = []
    engines = {
        name: msgspec.structs.replace(engine, settings=_engine_settings(name, engine, laid, warnings))
        for name, engine in config.engines.items()
    }
    return msgspec.structs.replace(config, engines=engines, warnings=tuple(warnings)), laid


def _refuse(laid: Layers, problems: Iterator[Problem]) -> None:
    for path, what in problems:
        raise laid.error(f"$.{path}", what)


def _settings() -> list[str]:
    """List the paths of all settings but the engines', which have names of their own."""
    sections = [field for field in msgspec.structs.fields(Config) if msgspec.inspect.is_struct_type(field.type)]
    return [f"{section.name}.{field.name}" for section in sections for field in msgspec.structs.fields(section.type)]


def _default_engine(tree: Tree) -> None:
    """Keep the plain names' engine first; where a file names other engines only, do not add one to them."""
    engines = tree.setdefault("engines", {DEFAULT_ENGINE: {}})
    if isinstance(engines, dict) and DEFAULT_ENGINE in engines:
        tree["engines"] = {DEFAULT_ENGINE: engines[DEFAULT_ENGINE]} | engines


def _contradictions(config: Config) -> Iterator[Problem]:
    """Yield what no type can say: the path at fault, and what is wrong with it."""
    if config.server.workers != 1:
        why = "one worker a process keeps the metrics true and the batch whole; run more replicas to scale"
        yield "server.workers", f"{config.server.workers} is refused: {why}"
    if config.warnings:
        yield "warnings", "there is no such setting"
    if not config.engines:
        yield "engines", "at least one engine is needed"
    if config.cors.credentials and "*" in config.cors.origins:
        yield "cors.credentials", "credentials cannot be allowed to every origin; name the origins"
    for key in ("otlp_endpoint", "otlp_traces_endpoint"):
        url = getattr(config.telemetry, key)
        if url is not None and not _is_url(url):
            yield f"telemetry.{key}", f"{url!r} is no URL; expected http:// or https:// and a host"
    for section, store in (("limits", config.limits.store_url), ("cache", config.cache.store_url)):
        yield from _no_store(section, store)
    for name in config.engines:
        if not name.isidentifier():
            yield f"engines.{name}", f"{name!r} is no name for an engine; use letters, digits and _"
    yield from _same_keys(config.auth)
    yield from _no_engines(config)


def _no_engines(config: Config) -> Iterator[Problem]:
    for alias, engines in config.routes.items():
        for name in set(engines) - config.engines.keys():
            yield f"routes.{alias}", f"there is no engine {name!r}; there is {', '.join(config.engines)}"


def _no_store(section: str, url: str | None) -> Iterator[Problem]:
    if url is not None and url.partition("://")[0] not in _STORES:  # it may hold a password: it is not repeated
        yield f"{section}.store_url", "it is no address of a store; expected redis://, rediss:// or unix://"


def _same_keys(auth: AuthSettings) -> Iterator[Problem]:
    """Yield the keys that have two names: only one of them could be meant."""
    names: dict[str, str] = {}
    for name, entry in auth.keys.items():
        first = names.setdefault(entry.sha256, name)
        if first != name:
            yield f"auth.keys.{name}.sha256", f"this is the key of auth.keys.{first} already"


def _openings(config: Config) -> Iterator[Problem]:
    """Yield what would let people in who should stay outside."""
    auth, server = config.auth, config.server
    if auth.file is None:
        has_keys = bool(auth.keys)
    else:
        try:
            has_keys = bool(KeyFile(Path(auth.file)).read())
        except (KeyFileError, OSError) as error:
            yield "auth.file", f"the keys cannot be read: {error}"
            return
    if has_keys or auth.insecure_no_auth:
        return
    if auth.file is not None:
        how = f"make one (`{command()} keys create NAME`), or say --insecure-no-auth"
        yield "auth.file", f"there is no key in {auth.file} yet; {how}"
    elif not _is_loopback(server.host):
        how = f"make one (`{command()} keys create NAME --file keys.db`) and set auth.file, or say --insecure-no-auth"
        yield "server.host", f"there is no key, so whoever reaches {server.host} could use the models; {how}"


def _is_loopback(host: str) -> bool:
    """Say whether only this machine reaches `host`, as far as anybody knows."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        return ipaddress.ip_address(socket.getaddrinfo(host, None)[0][4][0]).is_loopback
    except (OSError, ValueError):
        return False


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
