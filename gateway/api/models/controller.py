"""The models: list, show, load and unload them."""

import time
from collections.abc import Awaitable, Callable

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK

from gateway import __version__
from gateway.api.exchange.answer import HttpRequest
from gateway.api.exchange.dialect import ParameterTables
from gateway.api.http.access import ADMIN, caller_of
from gateway.api.models.schema import (
    LoadShare,
    ModelList,
    ModelObject,
    ModelParameters,
    ModelState,
    ModelStatus,
    Version,
)
from gateway.api.reference.errors import ENGINE, KEY, error_responses
from gateway.api.reference.paths import ModelPath, OwnerPath, full_name, name_operation
from gateway.engine import Health, ModelCard, system_fingerprint
from gateway.hosting.directory import NotLoaded
from gateway.hosting.hosted import HostedEngine
from gateway.hosting.hosting import Hosting
from gateway.hosting.route import Target
from gateway.service import Inference
from gateway.telemetry import current_record

_STARTED = int(time.time())
_STATUS: dict[Health, ModelStatus] = {
    Health.STARTING: "loading",
    Health.READY: "loaded",
    Health.DRAINING: "loaded",
    Health.UNLOADED: "unloaded",
    Health.FAILED: "failed",
}


class ModelController(Controller):
    """The models, in the shape that OpenAI's clients read."""

    path = "/"
    tags = ("models",)

    @get(
        ["/v1/models", "/models"],
        operation_id=name_operation,
        summary="List models",
        response_description="The models.",
        responses=error_responses(*KEY),
    )
    async def list_models(self, request: HttpRequest, inference: NamedDependency[Inference]) -> ModelList:
        """List the models that the caller may use."""
        targets = inference.router.targets(caller_of(request.scope))
        return ModelList("list", [_to_object(inference, target) for target in targets])

    @get(
        [
            "/v1/models/{name:str}",
            "/v1/models/{owner:str}/{name:str}",
            "/models/{name:str}",
            "/models/{owner:str}/{name:str}",
        ],
        operation_id=name_operation,
        summary="Retrieve a model",
        response_description="The model.",
        responses=error_responses(*KEY, *ENGINE),
    )
    async def show_model(
        self, request: HttpRequest, inference: NamedDependency[Inference], name: ModelPath, owner: OwnerPath = ""
    ) -> ModelObject:
        """Show a model that the caller may use."""
        return _to_object(inference, _find(request, inference, owner, name))

    @get(
        ["/v1/models/{name:str}/capabilities", "/v1/models/{owner:str}/{name:str}/capabilities"],
        operation_id=name_operation,
        summary="Retrieve a model's capabilities",
        response_description="The parameters.",
        responses=error_responses(*KEY, *ENGINE),
    )
    async def show_capabilities(
        self,
        request: HttpRequest,
        inference: NamedDependency[Inference],
        tables: NamedDependency[ParameterTables],
        name: ModelPath,
        owner: OwnerPath = "",
    ) -> ModelParameters:
        """Show what a model honours of the parameters that each route has; the same tables refuse the others.

        Of a model that was never loaded that is not known yet.
        """
        target = _find(request, inference, owner, name)
        if not target.hosted.knows_cards:
            raise NotLoaded(target.hosted)
        return to_parameters(target.card, tables)

    @post(
        ["/v1/models/{name:str}/load", "/v1/models/{owner:str}/{name:str}/load"],
        status_code=HTTP_200_OK,
        opt=ADMIN,
        operation_id=name_operation,
        summary="Load a model",
        response_description="The model, ready.",
        responses=error_responses(*KEY, *ENGINE, "load_failed"),
    )
    async def load_model(self, name: ModelPath, hosting: NamedDependency[Hosting], owner: OwnerPath = "") -> ModelState:
        """Load a model, by its name, its full id or its engine's name, and answer when it is ready."""
        return await _change(hosting.load, hosting, full_name(owner, name))

    @post(
        ["/v1/models/{name:str}/unload", "/v1/models/{owner:str}/{name:str}/unload"],
        status_code=HTTP_200_OK,
        opt=ADMIN,
        operation_id=name_operation,
        summary="Unload a model",
        response_description="The model, unloaded.",
        responses=error_responses(*KEY, "model_not_found", "engine_unavailable"),
    )
    async def unload_model(
        self, name: ModelPath, hosting: NamedDependency[Hosting], owner: OwnerPath = ""
    ) -> ModelState:
        """Let what runs finish, unload a model, and answer when its memory is free."""
        return await _change(hosting.unload, hosting, full_name(owner, name))

    @get(
        "/version",
        operation_id="version",
        tags=["health"],
        summary="Show the version",
        response_description="The version.",
        responses=error_responses(*KEY),
    )
    async def version(self) -> Version:
        """Show the release of the service."""
        return Version(__version__)


def to_parameters(card: ModelCard, tables: ParameterTables) -> ModelParameters:
    """Sort every parameter of every dialect by what becomes of it for a model."""
    return ModelParameters(
        id=card.name,
        capabilities=tuple(sorted(card.capabilities)),
        routes=tables.of(card),
    )


def _find(request: HttpRequest, inference: Inference, owner: str, name: str) -> Target:
    """Find a model that the caller may use, loaded or not; raise `UnknownModel`."""
    return inference.router.find_any(full_name(owner, name), caller_of(request.scope))


def _to_object(inference: Inference, target: Target) -> ModelObject:
    hosted, card = target.hosted, target.card
    return ModelObject(
        id=card.name,
        created=_STARTED,
        owned_by=card.owner,
        aliases=(*card.aliases, *inference.router.aliases(hosted)) if card is hosted.cards[0] else card.aliases,
        engine=hosted.name,
        loaded=hosted.engine is not None,
        status=_STATUS[hosted.health],
        detail=hosted.reason,
        progress=LoadShare(*hosted.progress[1:]) if hosted.progress.step else None,
        size=hosted.resident.size,
        last_used=_to_wall(hosted.resident.last_used),
        context_window=card.context_window,
        capabilities=tuple(sorted(card.capabilities)),
        device=card.device,
        dtype=card.dtype,
        system_fingerprint=system_fingerprint(card),
        build=card.build,
        note=card.note,
        root=card.root or card.name,
        parent=card.parent or None,
    )


def _to_wall(moment: float) -> int | None:
    """Tell a moment of the monotonic clock in seconds since 1970; 0 is never."""
    return round(time.time() - time.monotonic() + moment) if moment else None


async def _change(change: Callable[[str], Awaitable[HostedEngine]], hosting: Hosting, name: str) -> ModelState:
    """Load or unload, and tell telemetry the model, which may be known only afterwards."""
    clock = time.perf_counter()
    try:
        hosted = await change(name)
    finally:
        current_record().model = hosting.directory.name_of(name)
    model = hosted.cards[0].name if hosted.cards else hosted.name
    seconds = round(time.perf_counter() - clock, 3)
    return ModelState(model, hosted.name, hosted.health, hosted.engine is not None, seconds)
