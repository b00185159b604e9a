"""The Hugging Face transformers engine."""

from pathlib import Path

from gateway.engine import Engine, Plugin
from gateway_hf.settings import Settings, cache_folder


def build(settings: Settings) -> Engine:
    """Build the engine; only this imports torch."""
    from gateway_hf.engine import HfEngine  # noqa: PLC0415 - torch belongs where the engine runs

    return HfEngine(settings)


def is_local(settings: Settings) -> bool:
    """Tell whether the model is here already, as far as its name says."""
    return settings.model == "builtin" or Path(settings.model).exists()


plugin = Plugin(Settings, build, isolated=True, is_offline=is_local, cache_folder=cache_folder)
