"""The configuration: one struct per concern."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(ge=0, le=86_400)]


class TelemetrySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[telemetry]`: logs, metrics and traces."""

    log_level: Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["auto", "json", "text"] = "auto"
    metrics_enabled: bool = True
    otlp_endpoint: str | None = None
    otlp_protocol: Literal["grpc", "http/protobuf"] = "http/protobuf"
    service_name: str = "llm-gateway"
