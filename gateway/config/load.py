"""Load the configuration: convert the layers of `gateway.config.sources` to the structs of `gateway.config.schema`.

Unknown keys are refused, and every error names the layer and the path at fault.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from gateway.config import sources
from gateway.config.checks import (
    Violation,
    contradictions,
    misspelt_models,
    no_address,
    no_folder,
    openings,
    unusable_files,
)
from gateway.config.layers import ConfigError, Layers, Table
from gateway.config.schema import DEFAULT_ENGINE, Config, EngineSettings
from gateway.config.sources import IN_ENVIRONMENT, PLAIN
from gateway.config.standard import misread
from gateway.engine import PluginError, load

# Plain names that are ignored with a warning if the engine has no such setting.
_OPTIONAL = {PLAIN[name]: name for name in ("MODEL_NAME", "DEVICE")}


def read(file: str | None = None, flags: Mapping[str, str | None] | None = None) -> Config:
    """Read and check the configuration for serving; `flags` maps `server.port` to a text. Raise `ConfigError`."""
    config, laid = _read(file, flags)
    for what in (*misread(os.environ, config.telemetry), *no_folder()):
        raise ConfigError(what)
    _refuse(laid, no_address(config))
    _refuse(laid, openings(config))
    _refuse(laid, unusable_files(config))
    return config


def look(file: str | None = None, flags: Mapping[str, str | None] | None = None) -> Config:
    """Read the configuration for a command that does not serve: keys are not read. Raise `ConfigError`."""
    return _read(file, flags)[0]


def service_url() -> str:
    """Return the URL of the configured service for a client on this machine. Raise `ConfigError`."""
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
    """List the paths of all settings, except those of engines."""
    sections = [field for field in msgspec.structs.fields(Config) if msgspec.inspect.is_struct_type(field.type)]
    return [f"{section.name}.{field.name}" for section in sections for field in msgspec.structs.fields(section.type)]


def _default_engine(tree: Table) -> None:
    """Put the default engine first; do not add it if a file configures other engines only."""
    engines = tree.setdefault("engines", {DEFAULT_ENGINE: {}})
    if isinstance(engines, dict) and DEFAULT_ENGINE in engines:
        tree["engines"] = {DEFAULT_ENGINE: engines[DEFAULT_ENGINE]} | engines


def _engine_settings(name: str, engine: EngineSettings, laid: Layers, warnings: list[str]) -> Table:
    """Check an engine's settings and fill in their defaults, by converting them to the plugin's struct and back."""
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
