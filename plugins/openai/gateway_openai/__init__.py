"""Any server that speaks OpenAI's dialect, as an engine."""

from gateway.engine import Engine, Plugin
from gateway_openai.settings import Settings


def build(settings: Settings) -> Engine:
    """Build the engine; only this imports aiohttp."""
    from gateway_openai.engine import OpenAiEngine  # noqa: PLC0415 - a client belongs where the engine runs

    return OpenAiEngine(settings)


plugin = Plugin(Settings, build)
