"""The configuration: schema, layers, checks, and the way to the child processes.

The configuration in force while the service runs is `gateway.config.snapshot`.
"""

from gateway.config import libraries  # noqa: F401, I001 - first: what follows imports them
from gateway.admission import AdmissionSettings
from gateway.cache import CacheSettings
from gateway.config.checks import misspelt_models
from gateway.config.handover import Handover, HandoverFile, handed_over, relay
from gateway.config.layers import ConfigError
from gateway.config.load import look, read, service_url
from gateway.config.schema import (
    AuthSettings,
    Config,
    CorsSettings,
    EngineSettings,
    RouteSettings,
    GenerateSettings,
    ModelsSettings,
    ReplaySettings,
    ServerSettings,
    ShadowSettings,
    TelemetrySettings,
)
from gateway.config.sources import (
    FLAGS,
    PLAIN,
    PREFIX,
    SWITCHES,
    api_key,
    command,
    environment,
    has_colors,
    is_completing,
    is_dumb,
    variable,
)
from gateway.config.standard import SPAN_QUEUE
from gateway.limits.settings import LimitsSettings
from gateway.store import StoreSettings

__all__ = [
    "FLAGS",
    "PLAIN",
    "PREFIX",
    "SPAN_QUEUE",
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
    "HandoverFile",
    "LimitsSettings",
    "ModelsSettings",
    "ReplaySettings",
    "RouteSettings",
    "ServerSettings",
    "ShadowSettings",
    "StoreSettings",
    "TelemetrySettings",
    "api_key",
    "command",
    "environment",
    "handed_over",
    "has_colors",
    "is_completing",
    "is_dumb",
    "look",
    "misspelt_models",
    "read",
    "relay",
    "service_url",
    "variable",
]
