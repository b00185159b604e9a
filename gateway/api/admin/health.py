"""Probes: is the process alive, may it get traffic, and how is each engine."""

import time
from types import MappingProxyType
from typing import Annotated, Literal

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE
from msgspec import Meta, Struct

from gateway import __version__
from gateway.admission import Admission
from gateway.api.http.access import PUBLIC
from gateway.api.reference.errors import error_responses
from gateway.engine import Health, Status
from gateway.flow.breaker import State
from gateway.hosting.hosting import HostedEngine, Hosting
from gateway.telemetry import ROUTINE, current_record

_BEGIN = time.monotonic()

PluginName = Annotated[str, Meta(description="The name of the engine's plugin.", examples=["hf"])]
LoadedModelName = Annotated[
    str | None, Meta(description="The model that it serves.", examples=["smollm2-135m-instruct"])
]
Loaded = Annotated[bool, Meta(description="Whether the model is in memory.")]
Device = Annotated[str | None, Meta(description="What the model runs on.", examples=["cpu"])]


class EngineHealth(Struct, frozen=True, kw_only=True):
    """The state of one engine."""

    engine: Annotated[str, Meta(description="The engine's name in the configuration.", examples=["default"])]
    plugin: PluginName
    status: Health
    detail: Annotated[str, Meta(description="Why, in one line; empty where all is well.", examples=[""])]
    model: LoadedModelName
    loaded: Loaded
    device: Device
    running: Annotated[int, Meta(description="Generations under way.", examples=[1])]
    waiting: Annotated[int, Meta(description="Generations that wait for a place.", examples=[0])]
    breaker: Annotated[
        State,
        Meta(
            description="Whether its models are asked: `open` while one is left alone since its server fails again and "
            "again, `half_open` while one request tries it.",
            examples=["closed"],
        ),
    ]


class ServiceHealth(Struct, frozen=True, kw_only=True):
    """The state of the service; `model`, `engine`, `loaded` and `device` are those of the default engine."""

    status: Health
    detail: Annotated[str, Meta(description="Why it is not ready, in one line.", examples=[""])]
    model: LoadedModelName
    engine: PluginName
    loaded: Loaded
    device: Device
    version: Annotated[str, Meta(description="The gateway's version.", examples=[__version__])]
    uptime: Annotated[float, Meta(description="Seconds since the start.", examples=[12.5])]
    engines: Annotated[list[EngineHealth], Meta(description="All engines, the default one first.")]


class Alive(Struct, frozen=True):
    """The answer of a process that answers."""

    status: Annotated[Literal["alive"], Meta(description="Always `alive`.")] = "alive"


class Readiness(Struct, frozen=True):
    """Whether to send traffic."""

    status: Health


def _not_ready(body: type[Struct]) -> dict[int, ResponseSpec]:
    answer = ResponseSpec(body, generate_examples=False, description="Not now: starting, failed or draining.")
    return {HTTP_503_SERVICE_UNAVAILABLE: answer}


class HealthController(Controller):
    """The probes; they need no key."""

    opt = MappingProxyType({**ROUTINE, **PUBLIC})
    tags = ("health",)

    @get(
        "/v1/health",
        operation_id="health",
        summary="How the service and its engines are",
        response_description="It can serve.",
        responses=error_responses() | _not_ready(ServiceHealth),
    )
    async def health(
        self, hosting: NamedDependency[Hosting], admission: NamedDependency[Admission]
    ) -> Response[ServiceHealth]:
        """Say how the service and each engine is; 503 with the reason while it cannot serve."""
        statuses = await hosting.ask_all()
        engines = [
            _engine_health(hosted, status, admission) for hosted, status in zip(hosting.engines, statuses, strict=True)
        ]
        default = engines[0]
        status = hosting.health
        # One that the next request loads is no trouble.
        awake = [engine for engine, hosted in zip(engines, hosting.engines, strict=True) if not hosted.is_asleep]
        is_any_up = len(awake) < len(engines) or any(engine.status is Health.READY for engine in awake)
        if status is Health.READY and not is_any_up:
            status = default.status
        troubles = [f"{engine.engine}: {engine.detail}" for engine in awake if engine.detail]
        body = ServiceHealth(
            status=status,
            detail="; ".join(troubles),
            model=default.model,
            engine=default.plugin,
            loaded=default.loaded,
            device=default.device,
            version=__version__,
            uptime=round(time.monotonic() - _BEGIN, 3),
            engines=engines,
        )
        return Response(body, status_code=_to_status_code(status))

    @get(
        "/livez",
        operation_id="livez",
        summary="Whether the process answers",
        response_description="It does.",
        responses=error_responses(),
    )
    async def livez(self) -> Alive:
        """Say that the process answers, whatever its engines do."""
        return Alive()

    @get(
        "/readyz",
        operation_id="readyz",
        summary="Whether to send traffic here",
        response_description="Send it.",
        responses=error_responses() | _not_ready(Readiness),
    )
    async def readyz(self, hosting: NamedDependency[Hosting]) -> Response[Readiness]:
        """Say whether to send traffic here; 503 while starting, failed or draining."""
        return await _readiness(hosting)

    @get(["/health", "/ping"], include_in_schema=False)
    async def health_of_others(self, hosting: NamedDependency[Hosting]) -> Response[Readiness]:
        """Answer as `/readyz` does, for balancers and the clients of other servers."""
        return await _readiness(hosting)


async def _readiness(hosting: Hosting) -> Response[Readiness]:
    await hosting.ask_all()
    return Response(Readiness(hosting.health), status_code=_to_status_code(hosting.health))


def _engine_health(hosted: HostedEngine, status: Status, admission: Admission) -> EngineHealth:
    card = hosted.cards[0] if hosted.cards else None
    return EngineHealth(
        engine=hosted.name,
        plugin=hosted.plugin,
        status=status.health,
        detail=status.detail,
        model=card.name if card else None,
        loaded=hosted.engine is not None,
        device=card.device if card else None,
        running=status.running,
        waiting=status.waiting + admission.waiting(hosted.cards),
        breaker=admission.breaker(hosted.cards),
    )


def _to_status_code(status: Health) -> int:
    current_record().is_expected = status is Health.STARTING
    return HTTP_200_OK if status is Health.READY else HTTP_503_SERVICE_UNAVAILABLE
