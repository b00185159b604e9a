"""The only file where everything meets."""

import gc
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from importlib.metadata import entry_points

from litestar import Litestar, Request, Response
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin
from litestar.types import ControllerRouterHandler
from loguru import logger

from gateway.admission import Admission
from gateway.api import docs
from gateway.api.admin import gauges
from gateway.api.admin.health import HealthController
from gateway.api.admin.metrics import MetricsController
from gateway.api.admin.requests import RequestsController
from gateway.api.anthropic.controller import AnthropicController
from gateway.api.edge import Edge
from gateway.api.errors import error_response
from gateway.api.http.access import Access
from gateway.api.http.problems import to_problem
from gateway.api.models.controller import ModelController
from gateway.api.native.controller import NativeController
from gateway.api.openai.controller import OpenAIController
from gateway.api.tokens.controller import TokenController
from gateway.config import Config, CorsSettings, handed_over, take_over
from gateway.config.snapshot import CurrentConfig, Snapshot
from gateway.hosting import shutdown as lifecycle
from gateway.hosting.hosting import Hosting
from gateway.isolation import EngineProcess
from gateway.limits import RATE_HEADERS, Limiter
from gateway.service import Inference
from gateway.supervisor.client import SupervisorClient
from gateway.telemetry import Telemetry, current_record

ROUTES = "llm_gateway.routes"


_CONTROLLERS = (
    NativeController,
    OpenAIController,
    AnthropicController,
    ModelController,
    TokenController,
    RequestsController,
    HealthController,
    MetricsController,
)


class _Application(Litestar):
    """Litestar without its plugins for pydantic and attrs, unless somebody's endpoint has brought one of them along."""

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        """Spare the worker a tenth of its start: Litestar imports both wherever they are installed."""
        if {"attr", "pydantic"} & sys.modules.keys():
            return Litestar._get_default_plugins(plugins)  # noqa: SLF001 - no public way leads there
        return [*plugins, MsgspecDIPlugin()]


def serve() -> Litestar:
    """Make the application in granian's worker, from the configuration that was handed over."""
    # All of this lives as long as the process: nothing of it is garbage, and to look through it again and again took
    # pauses of 45 ms.
    gc.disable()
    app = create_app(take_over())
    gc.freeze()
    gc.enable()
    return app


def create_app(config: Config) -> Litestar:
    """Make the application."""
    telemetry = Telemetry.start(config.telemetry)
    live = CurrentConfig(Snapshot.of(config))
    helm = SupervisorClient(found.control) if (found := handed_over()) else None
    hosting = Hosting(config.engines, config.server.drain_seconds, helm.start if helm else EngineProcess.start)
    admission = Admission(config.admission)
    limiter = _limiter(config)
    inference = Inference(hosting, admission, limiter, telemetry, live)
    access = Access(live, lambda reason: telemetry.metrics.auth_failures.add(1, reason))

    async def reload(changed: Config) -> None:
        """Go by another configuration; what runs, waits and was used stays as it is. Raise `KeyFileError`."""
        fixed = live.swap(Snapshot.of(changed))
        admission.configure(changed.admission)
        if fixed:
            logger.bind(event="reload").warning("only a restart can change {}; it stays", ", ".join(fixed))
        await hosting.reload(changed.engines)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None, None]:
        for warning in config.warnings:
            logger.warning("{}", warning)
        try:
            heard = helm.listen(reload) if helm else nullcontext()
            async with (
                aclosing(limiter),
                aclosing(inference.cache),
                heard,
                hosting,
                lifecycle.drain_on_signal(hosting, helm),
            ):
                yield
        finally:
            await telemetry.stop()

    app = _Application(
        route_handlers=[*_CONTROLLERS, *_pages(config), *_custom_routes()],
        dependencies={
            "hosting": _provide(hosting),
            "inference": _provide(inference),
            "live": _provide(live),
            "telemetry": _provide(telemetry),
        },
        exception_handlers={Exception: _answer_problem},
        middleware=[access.guard],
        cors_config=_cors(config.cors),
        lifespan=[lifespan],
        logging_config=None,
        openapi_config=docs.Description() if config.server.docs else None,
        request_max_body_size=None,
    )
    guard = Edge(app.asgi_handler, live)
    app.asgi_handler = telemetry.middleware(guard)
    gauges.show(telemetry.metrics, hosting, admission, limiter, guard)
    gauges.show_cache(telemetry.metrics, inference.cache)
    return app


def _answer_problem(request: Request[None, None, State], error: Exception) -> Response[bytes]:
    """Answer every error in the shape that its path has; log what nobody foresaw."""
    problem = to_problem(error)
    if problem.code == "internal_error":
        logger.opt(exception=error).error("a request failed in a way that nothing foresaw")
    current_record().code = problem.code
    told = error_response(problem, request.scope["path"])
    return Response(told.body, status_code=told.status, headers=problem.headers, media_type="application/json")


def _provide(value: object) -> Provide:
    async def provide() -> object:
        return value

    return Provide(provide, use_cache=True)


def _pages(config: Config) -> Sequence[ControllerRouterHandler]:
    return docs.ROUTES if config.server.docs else ()


def _cors(settings: CorsSettings) -> CORSConfig | None:
    if not settings.origins:
        return None
    return CORSConfig(
        allow_origins=list(settings.origins),
        allow_methods=list(settings.methods),  # type: ignore[arg-type]  # checked by the browser, not by a list of ours
        allow_headers=list(settings.headers),
        allow_credentials=settings.credentials,
        max_age=settings.max_age,
        expose_headers=[
            "retry-after",
            "retry-after-ms",
            "request-id",
            "x-cache",
            "x-failed-choices",
            "x-finish-detail",
            "x-ignored-params",
            "x-request-id",
            *RATE_HEADERS,
        ],
    )


def _limiter(config: Config) -> Limiter:
    limits = config.limits
    if not limits.store_url:
        return Limiter(None, when_down=limits.when_down, replicas=limits.replicas)
    from gateway.limits.redis_store import RedisLimitStore  # noqa: PLC0415 - redis is for those who share a store

    store = RedisLimitStore(limits.store_url, seconds=limits.store_seconds, lease=2 * config.server.request_seconds)
    return Limiter(store, when_down=limits.when_down, replicas=limits.replicas)


def _custom_routes() -> list[ControllerRouterHandler]:
    """Add the controllers of installed packages (entry point group `llm_gateway.routes`)."""
    return [point.load() for point in entry_points(group=ROUTES)]
