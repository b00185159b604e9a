"""The Hugging Face transformers engine."""

from gateway.engine import Engine, Plugin
from gateway_hf.settings import Settings


def build(settings: Settings) -> Engine:
    """Build the engine; only this imports torch."""
    from gateway_hf.engine import HfEngine  # noqa: PLC0415 - torch belongs where the engine runs

    return HfEngine(settings)


plugin = Plugin(Settings, build)
