"""The settings: one struct per concern, complete with its defaults. `gateway.config.load` reads them."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.admission import AdmissionSettings
from gateway.auth import KeyEntry
from gateway.cache import CacheSettings
from gateway.limits.settings import LimitsSettings
from gateway.store import BatchSettings, FileSettings, StoreSettings

# What pages may send: the headers of the service itself, and those that the SDKs of OpenAI and Anthropic set.
CORS_HEADERS = (
    "authorization",
    "cache-control",
    "content-type",
    "prefer",
    "traceparent",
    "tracestate",
    "x-api-key",
    "x-request-timeout",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
    "idempotency-key",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "user-agent",
    "x-stainless-arch",
    "x-stainless-async",
    "x-stainless-custom-poll-interval",
    "x-stainless-helper",
    "x-stainless-helper-method",
    "x-stainless-lang",
    "x-stainless-os",
    "x-stainless-package-version",
    "x-stainless-poll-helper",
    "x-stainless-read-timeout",
    "x-stainless-retry-count",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
    "x-stainless-timeout",
)
# The engine that the plain names of the environment and the flags set up.
DEFAULT_ENGINE = "default"

Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class ServerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[server]`: the address, and the limits of every request."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65_535)] = 8000
    workers: int = 1
    drain_seconds: Annotated[float, Meta(ge=0, le=3_600)] = 30.0
    notice_seconds: Annotated[float, Meta(ge=0, le=3_600)] = 0.0
    request_seconds: Seconds = 600.0
    max_body_bytes: Annotated[int, Meta(ge=1_024)] = 4 * 1024 * 1024
    max_logprobs: Annotated[int, Meta(ge=1)] = 65_536
    held_body_bytes: Annotated[int, Meta(ge=1_024)] = 32 * 1024 * 1024
    body_seconds: Seconds = 10.0
    idle_seconds: Annotated[int, Meta(ge=1, le=60)] = 15
    ping_seconds: Seconds = 15.0
    stall_seconds: Seconds = 20.0
    join_seconds: Annotated[float, Meta(ge=0, le=1)] = 0.005
    unsent_bytes: Annotated[int, Meta(ge=1_024)] = 32 * 1024 * 1024
    hang_seconds: Annotated[float, Meta(ge=2, le=86_400)] = 30.0
    allowed_hosts: tuple[str, ...] = ()
    root_path: Annotated[str, Meta(pattern=r"^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$")] = ""
    forwarded_allow: tuple[str, ...] = ()
    forwarded_header: Literal["x-forwarded-for", "forwarded", "x-real-ip"] = "x-forwarded-for"
    tls_certificate: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    strict: bool = False
    docs: bool = True
    playground: bool = True

    @property
    def url(self) -> str:
        """The URL of the service for a client on this machine."""
        return self._url({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host))  # noqa: S104 - all addresses

    @property
    def listening(self) -> str:
        """The address that the service listens on, as a URL."""
        return self._url(self.host)

    def _url(self, host: str) -> str:
        scheme = "https" if self.tls_certificate else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"


class CorsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[cors]`: the web pages that may call; none if `origins` is empty."""

    origins: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("GET", "POST")
    headers: tuple[str, ...] = CORS_HEADERS
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
    aliases: tuple[Literal["vllm"], ...] = ()
    otlp_endpoint: str | None = None
    otlp_traces_endpoint: str | None = None
    otlp_protocol: Literal["grpc", "http/protobuf"] = "http/protobuf"
    service_name: str = "llm-gateway"


class EngineSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[engines.NAME]`: the plugin that runs, where it runs, and the plugin's own settings.

    If `isolated` is `None`, the plugin decides, and so it does for `network`: whether an isolated process may open
    connections to other machines. An engine may load for `load_seconds`. An isolated process that sends
    nothing, or makes no progress, for `hang_seconds` is replaced.

    It is loaded with the service (`load` is `start`), by the first request that needs it (`demand`), or by hand only
    (`never`). It is unloaded after `idle_seconds` without a request, or when another needs the room, unless `pinned`.
    """

    plugin: str = "hf"
    settings: dict[str, Any] = {}
    isolated: bool | None = None
    network: bool | None = None
    load_seconds: Seconds = 1_800.0
    hang_seconds: Seconds = 30.0
    load: Literal["start", "demand", "never"] = "start"
    idle_seconds: Seconds | None = None
    pinned: bool = False


class ModelsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[models]`: the most that may be loaded at once, in bytes and in models; `None` is no bound."""

    memory_budget: Annotated[int, Meta(ge=1)] | None = None
    max_loaded: Annotated[int, Meta(ge=1)] | None = None


class ShadowSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[routes.NAME.shadow]`: an engine that is asked a `share` of the route's requests too, `at_once` at most."""

    engine: str
    share: Annotated[float, Meta(gt=0, le=1)] = 0.01
    at_once: Annotated[int, Meta(ge=1, le=1_000)] = 1


class RouteSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[routes.NAME]`: one more name of models, the engines that it means, and how one of them is chosen.

    `weights` are by engine, 1 where none is named. Without `fallback`, an engine that refuses or fails is the last one.
    An engine that has not begun its answer after `try_seconds` at work is given up for the next.
    """

    engines: Annotated[tuple[str, ...], Meta(min_length=1)]
    strategy: Literal["ordered", "least_loaded", "weighted", "prefix"] = "ordered"
    weights: dict[str, Annotated[float, Meta(gt=0, le=1_000_000)]] = {}
    fallback: bool = True
    try_seconds: Seconds | None = None
    shadow: ShadowSettings | None = None


class ReplaySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[replay]`: how many of the last requests are recorded with their answers, and in how much memory; 0 is none."""

    requests: Annotated[int, Meta(ge=0, le=100_000)] = 0
    max_bytes: Annotated[int, Meta(ge=1_024)] = 16 * 1024 * 1024


class AuthSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[auth]`: the API keys; without one, every caller is accepted."""

    file: str | None = None
    keys: dict[str, KeyEntry] = {}
    insecure_no_auth: bool = False


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration. The first engine answers requests that name no model.

    `routes` are further model names; a list of engines means the first that can serve.
    """

    server: ServerSettings = ServerSettings()
    cors: CorsSettings = CorsSettings()
    generate: GenerateSettings = GenerateSettings()
    auth: AuthSettings = AuthSettings()
    limits: LimitsSettings = LimitsSettings()
    admission: AdmissionSettings = AdmissionSettings()
    cache: CacheSettings = CacheSettings()
    store: StoreSettings = StoreSettings()
    files: FileSettings = FileSettings()
    batches: BatchSettings = BatchSettings()
    replay: ReplaySettings = ReplaySettings()
    models: ModelsSettings = ModelsSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    engines: dict[str, EngineSettings] = msgspec.field(default_factory=lambda: {DEFAULT_ENGINE: EngineSettings()})
    routes: dict[str, Annotated[tuple[str, ...], Meta(min_length=1)] | RouteSettings] = {}
    warnings: tuple[str, ...] = ()

    def route(self, name: str) -> RouteSettings | None:
        """Find a route; a list of engines is one in order."""
        found = self.routes.get(name)
        return RouteSettings(engines=found) if isinstance(found, tuple) else found
