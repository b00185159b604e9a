"""The configuration, read: the structs of `gateway.config.schema` from the layers of `gateway.config.sources`.

Unknown keys are refused, and every error names the layer and the path at fault.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from gateway.config import sources
from gateway.config.checks import Violation, contradictions, misspelt_models, no_address, openings
from gateway.config.layers import Layers, Table
from gateway.config.schema import DEFAULT_ENGINE, Config, EngineSettings
from gateway.config.sources import IN_ENVIRONMENT, PLAIN
from gateway.engine import PluginError, load

# The settings that a plain name sets where the engine has such a setting, and a warning where it has none.
_OPTIONAL = {PLAIN[name]: name for name in ("MODEL_NAME", "DEVICE")}


def read(file: str | None = None, flags: Mapping[str, str | None] | None = None) -> Config:
    """Read all layers, to serve by; `flags` maps paths like `server.port` to texts. Raise `ConfigError`."""
    config, laid = _read(file, flags)
    _refuse(laid, no_address(config))
    _refuse(laid, openings(config))
    return config


def look(file: str | None = None, flags: Mapping[str, str | None] | None = None) -> Config:
    """Read all layers for who does not serve, and may not read the keys. Raise `ConfigError`."""
    return _read(file, flags)[0]


def service_url() -> str:
    """Say where a client on this machine finds the service that is configured here. Raise `ConfigError`."""
    config, laid = _read(None, None)
    _refuse(laid, no_address(config))
    return config.server.url


def _read(file: str | None, flags: Mapping[str, str | None] | None) -> tuple[Config, Layers]:
    laid = sources.collect(file, flags or {}, _settings())
    _default_engine(laid.tree)
    config = laid.convert(laid.tree, Config)
    _refuse(laid, contradictions(config))
    warnings = sources.unread()
    engines = {
        name: msgspec.structs.replace(engine, settings=_engine_settings(name, engine, laid, warnings))
        for name, engine in config.engines.items()
    }
    config = msgspec.structs.replace(config, engines=engines)
    for name, key in config.auth.keys.items():
        warnings += [f"auth.keys.{name}.models: {what}" for what in misspelt_models(config, key.models or ())]
    return msgspec.structs.replace(config, warnings=tuple(warnings)), laid


def _refuse(laid: Layers, problems: Iterator[Violation]) -> None:
    for path, what in problems:
        raise laid.error(f"$.{path}", what)


def _settings() -> list[str]:
    """List the paths of all settings but the engines', which have names of their own."""
    sections = [field for field in msgspec.structs.fields(Config) if msgspec.inspect.is_struct_type(field.type)]
    return [f"{section.name}.{field.name}" for section in sections for field in msgspec.structs.fields(section.type)]


def _default_engine(tree: Table) -> None:
    """Keep the plain names' engine first; where a file names other engines only, do not add one to them."""
    engines = tree.setdefault("engines", {DEFAULT_ENGINE: {}})
    if isinstance(engines, dict) and DEFAULT_ENGINE in engines:
        tree["engines"] = {DEFAULT_ENGINE: engines[DEFAULT_ENGINE]} | engines


def _engine_settings(name: str, engine: EngineSettings, laid: Layers, warnings: list[str]) -> Table:
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
        if foreign and laid.origin(path).removeprefix(".env: ").removesuffix(IN_ENVIRONMENT) == variable:
            warnings.append(f"{variable} is ignored: the engine plugin {engine.plugin!r} has no setting {key!r}")
            del settings[key]
    if "cache_folder" in known and (home := os.environ.get("XDG_CACHE_HOME")):
        settings.setdefault("cache_folder", str(Path(home, "llm-gateway")))
    return dict(msgspec.to_builtins(laid.convert(settings, plugin.settings, f"$.engines.{name}.settings")))
