"""GGUF models run by llama.cpp's server, which is a child of this engine."""

from gateway.engine import Engine, Plugin
from gateway_llamacpp.settings import Settings


def build(settings: Settings) -> Engine:
    """Build the engine; only this imports aiohttp."""
    from gateway_llamacpp.engine import LlamaCppEngine  # noqa: PLC0415 - a client belongs where the engine runs

    return LlamaCppEngine(settings)


plugin = Plugin(Settings, build, isolated=True)
