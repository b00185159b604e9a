"""The only file where everything meets."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import entry_points

from litestar import Litestar, Request, Response
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ControllerRouterHandler
from loguru import logger

from gateway import lifecycle
from gateway.api import docs
from gateway.api.guard import Guard
from gateway.api.health import HealthController
from gateway.api.metrics import MetricsController
from gateway.api.native.controller import NativeController
from gateway.api.problems import to_problem
from gateway.config import Config, CorsSettings, take_over
from gateway.hosting import Hosting
from gateway.service import Inference
from gateway.telemetry import Telemetry, current_record

ROUTES = "llm_gateway.routes"


def serve() -> Litestar:
    """Make the application in granian's worker, from the configuration that was handed over."""
    return create_app(take_over())


def create_app(config: Config) -> Litestar:
    """Make the application."""
    telemetry = Telemetry.start(config.telemetry)
    hosting = Hosting(config.engines, config.server.drain_seconds)
    telemetry.metrics.watch(hosting.loaded, hosting.up)
    inference = Inference(hosting, telemetry, config)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None, None]:
        for warning in config.warnings:
            logger.warning("{}", warning)
        try:
            async with hosting, lifecycle.watch(hosting):
                yield
        finally:
            await telemetry.stop()

    app = Litestar(
        route_handlers=[NativeController, HealthController, MetricsController, *_pages(config), *_custom_routes()],
        dependencies={
            "config": _provide(config),
            "hosting": _provide(hosting),
            "inference": _provide(inference),
            "telemetry": _provide(telemetry),
        },
        exception_handlers={Exception: _answer_problem},
        cors_config=_cors(config.cors),
        lifespan=[lifespan],
        logging_config=None,
        openapi_config=docs.Description() if config.server.docs else None,
        request_max_body_size=None,
    )
    app.asgi_handler = telemetry.middleware(Guard(app.asgi_handler, config.server, config.cors.origins))
    return app


def _answer_problem(_: Request[None, None, State], error: Exception) -> Response[bytes]:
    """Answer every error in the one shape; log what nobody foresaw."""
    problem = to_problem(error)
    if problem.code == "internal_error":
        logger.opt(exception=error).error("a request failed in a way that nothing foresaw")
    current_record().code = problem.code
    return Response(problem.body(), status_code=problem.status, headers=problem.headers, media_type="application/json")


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
        expose_headers=["retry-after", "x-ignored-params", "x-request-id"],
    )


def _custom_routes() -> list[ControllerRouterHandler]:
    """Add the controllers of installed packages (entry point group `llm_gateway.routes`)."""
    return [point.load() for point in entry_points(group=ROUTES)]
