"""The only file where everything meets."""

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial

from litestar import Litestar
from litestar.di import Provide
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin
from litestar.router import Router
from litestar.types.internal_types import RouteHandlerMapItem, RouteHandlerType
from loguru import logger

from gateway.admission import Admission
from gateway.api import docs
from gateway.api.admin import gauges
from gateway.api.batches.asking import LineAsker, endpoints_of
from gateway.api.batches.runner import BatchRunner
from gateway.api.edge import Edge
from gateway.api.errors import Errors
from gateway.api.exchange.dialect import Dialect, ParameterTables
from gateway.api.explain.explaining import Explainer, explained_endpoints
from gateway.api.http.access import Access
from gateway.api.http.cors import to_cors
from gateway.api.routes import DIALECTS, WORDS, routes
from gateway.config import Config, Handover, ServerSettings, handed_over, read, variable
from gateway.config.snapshot import CurrentConfig, Snapshot
from gateway.engine import lend_secrets
from gateway.hosting.hosting import Hosting
from gateway.hosting.prober import Prober
from gateway.hosting.shutdown import supervised
from gateway.isolation import EngineProcess
from gateway.limits.settings import to_limiter
from gateway.questions import Questions
from gateway.service import Inference
from gateway.supervisor.client import ReloadWork, SupervisorClient
from gateway.telemetry import STDOUT, Telemetry

# Takes up the certificate of a configuration, and names the settings that only a restart can change.
Renew = Callable[[ServerSettings], list[str]]


def _keep(_: ServerSettings) -> list[str]:
    return []


class _Application(Litestar):
    """Litestar without its plugins for pydantic and attrs, unless a package has brought one along."""

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        """Spare the worker a tenth of its start: Litestar imports both wherever they are installed."""
        if {"attr", "pydantic"} & sys.modules.keys():
            return Litestar._get_default_plugins(plugins)  # noqa: SLF001 - no public way leads there
        return [*plugins, MsgspecDIPlugin()]

    @property
    def route_handler_method_map(self) -> dict[str, RouteHandlerMapItem]:
        """Leave out OPTIONS: Litestar's own for a path's first handler knows no methods of its later ones.

        It then makes another one with each handler that a path gets.
        """
        return _without_options(super().route_handler_method_map)

    @classmethod
    def get_route_handler_map(cls, value: "RouteHandlerType | Router") -> dict[str, RouteHandlerMapItem]:
        """Leave out OPTIONS, likewise."""
        return _without_options(super().get_route_handler_map(value))


def _without_options(found: dict[str, RouteHandlerMapItem]) -> dict[str, RouteHandlerMapItem]:
    for handlers in found.values():
        handlers.pop("OPTIONS", None)
    return found


def serve(renew: Renew = _keep) -> Litestar:
    """Make the application in granian's worker, from what was handed over; under another server, from all layers.

    `renew` takes up the certificate of a reload, and names the settings that only a restart can change.
    """
    # All of this lives as long as the process: nothing of it is garbage, and to look through it again and again took
    # pauses of 45 ms.
    gc.disable()
    lend_secrets(variable)
    handover = handed_over()
    app = create_app(handover.config if handover else read(), handover=handover, renew=renew)
    gc.freeze()
    gc.enable()
    return app


def create_app(
    config: Config, dialects: Sequence[Dialect] = DIALECTS, handover: Handover | None = None, renew: Renew = _keep
) -> Litestar:
    """Make the application; without a `handover` no supervisor is behind it."""
    telemetry = Telemetry.start(config.telemetry, handover.log if handover else STDOUT)
    # The supervisor has read the keys: a worker that finds the file locked must not end, and the service with it.
    current = CurrentConfig(Snapshot.of(config, may_wait=handover is not None))
    supervisor = SupervisorClient(handover.control) if handover else None
    hosting, admission = _to_hosting(config, supervisor), Admission(config.admission)
    limiter = to_limiter(config.limits, lease_seconds=2 * config.server.request_seconds)
    inference = Inference(hosting, admission, limiter, telemetry, current)
    questions = Questions(hosting, admission, limiter, current)
    batches = BatchRunner(LineAsker(inference, questions, admission, current, endpoints_of(dialects)))
    errors, reload = Errors(dialects, WORDS), _to_reload(current, admission, hosting, renew)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None, None]:
        for warning in config.warnings:
            logger.warning("{}", warning)
        try:
            listening = supervised(supervisor, hosting, reload, partial(_drain, batches, inference))
            probing, kept = Prober(hosting.directory, admission), _kept(inference)
            async with aclosing(limiter), kept, listening, hosting, probing, batches:
                yield
        finally:
            await telemetry.stop()

    app = _Application(
        route_handlers=routes(dialects, config.server, inference),
        dependencies=_provide(
            admission=admission,
            hosting=hosting,
            inference=inference,
            current=current,
            tables=ParameterTables(dialects),
            questions=questions,
            explainer=Explainer(inference, questions, admission, explained_endpoints(dialects)),
            batches=batches,
            telemetry=telemetry,
        ),
        exception_handlers={Exception: errors.answer},
        middleware=[Access(current, partial(telemetry.metrics.auth_failures.add, 1)).guard],
        cors_config=to_cors(config.cors),
        lifespan=[lifespan],
        logging_config=None,
        openapi_config=docs.Description(dialects, config.server.root_path) if config.server.docs else None,
        request_max_body_size=None,
    )
    edge = Edge(app.asgi_handler, current, errors, is_leaving=lambda: hosting.is_leaving)
    app.asgi_handler = telemetry.middleware(edge)
    gauges.register(telemetry.metrics, hosting, admission, limiter, edge)
    gauges.register_answers(telemetry.metrics, inference, batches, current)
    gauges.register_aliases(telemetry.metrics, config.telemetry, hosting, admission)
    return app


def _to_hosting(config: Config, supervisor: SupervisorClient | None) -> Hosting:
    start, there = (supervisor.start, supervisor.find_there) if supervisor else (EngineProcess.start, tuple)
    return Hosting(config.engines, config.server.drain_seconds, start, config.models, there)


def _to_reload(current: CurrentConfig, admission: Admission, hosting: Hosting, renew: Renew) -> ReloadWork:
    async def reload(changed: Config) -> None:
        """Go by another configuration; what runs, waits and was used stays as it is. Raise `KeyFileError`."""
        snapshot = await asyncio.to_thread(Snapshot.of, changed)
        fixed = renew(changed.server) + current.swap(snapshot)
        admission.configure(changed.admission)
        if fixed:
            logger.bind(event="reload").warning("only a restart can change {}; it stays", ", ".join(fixed))
        hosting.drain_seconds = changed.server.drain_seconds
        await hosting.reload(changed.engines, changed.models)

    return reload


async def _drain(batches: BatchRunner, inference: Inference) -> None:
    """Leave the lines of batches to the next service, and let requests finish."""
    await batches.stop()
    await inference.drain()


@asynccontextmanager
async def _kept(inference: Inference) -> AsyncGenerator[None, None]:
    """Hold what answers and files are kept in, and those that are made in the background."""
    files, background = aclosing(inference.files), aclosing(inference.background)
    async with aclosing(inference.cache), inference.store, files, background:
        yield


def _provide(**values: object) -> dict[str, Provide]:
    """Hand each value to the routes that name it."""

    def provider(value: object) -> Provide:
        async def provide() -> object:
            return value

        return Provide(provide, use_cache=True)

    return {name: provider(value) for name, value in values.items()}
