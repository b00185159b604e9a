"""`GET /v1/models`, one model of them, and what it honours; also without `/v1`."""

import time
from typing import Annotated, Literal

from litestar import Controller, Request, get
from litestar.datastructures import State
from litestar.di import NamedDependency
from msgspec import Meta, Struct

from gateway import __version__
from gateway.api.anthropic.parameters import sort_out
from gateway.api.http.access import caller_of
from gateway.api.native.schema import ModelList, ModelObject
from gateway.api.openai.controller import name_operation
from gateway.api.openai.parameters import KINDS, honoured, refused, taken
from gateway.api.reference.errors import ENGINE, KEY, error_responses
from gateway.api.reference.paths import Name, Owner, full_name
from gateway.engine import ModelCard
from gateway.hosting.hosting import HostedEngine
from gateway.service import Inference

_STARTED = int(time.time())


class Parameters(Struct, frozen=True):
    """What becomes of the parameters of a route; a part of one has its path."""

    honoured: Annotated[tuple[str, ...], Meta(description="Done as documented.", examples=[["temperature"]])]
    taken: Annotated[
        tuple[str, ...], Meta(description="Taken, and without effect, as their description says.", examples=[["user"]])
    ]
    refused: Annotated[
        tuple[str, ...],
        Meta(description="Refused with `unsupported_parameter`, unless they ask for nothing.", examples=[["audio"]]),
    ]


class ModelParameters(Struct, frozen=True, kw_only=True):
    """What a model honours."""

    id: Annotated[str, Meta(description="The model's own name.", examples=["smollm2-135m-instruct"])]
    object: Annotated[Literal["model.capabilities"], Meta(description="Always `model.capabilities`.")] = (
        "model.capabilities"
    )
    capabilities: Annotated[
        tuple[str, ...], Meta(description="What it can be asked for.", examples=[["chat", "temperature"]])
    ]
    routes: Annotated[
        dict[str, Parameters],
        Meta(
            description="The parameters, by the route.",
            examples=[{"completions": {"honoured": ["prompt"], "taken": ["user"], "refused": ["suffix"]}}],
        ),
    ]


class Version(Struct, frozen=True):
    """Which release answers."""

    version: Annotated[str, Meta(description="The release.", examples=["1.0.0"])]


class ModelController(Controller):
    """The models, in the shape that OpenAI's clients read."""

    path = "/"

    @get(
        ["/v1/models", "/models"],
        operation_id=name_operation,
        tags=["models"],
        summary="List the models",
        response_description="The models.",
        responses=error_responses(*KEY),
    )
    async def list_models(
        self, request: Request[None, None, State], inference: NamedDependency[Inference]
    ) -> ModelList:
        """List the models that the caller may use."""
        cards = inference.routing.cards(caller_of(request.scope))
        return ModelList("list", [_to_object(inference, seat, card) for seat, card in cards])

    @get(
        [
            "/v1/models/{name:str}",
            "/v1/models/{owner:str}/{name:str}",
            "/models/{name:str}",
            "/models/{owner:str}/{name:str}",
        ],
        operation_id=name_operation,
        tags=["models"],
        summary="Show a model",
        response_description="The model.",
        responses=error_responses(*KEY, *ENGINE),
    )
    async def show_model(
        self, request: Request[None, None, State], inference: NamedDependency[Inference], name: Name, owner: Owner = ""
    ) -> ModelObject:
        """Show a model that the caller may use."""
        return _to_object(inference, *_find(request, inference, owner, name))

    @get(
        ["/v1/models/{name:str}/capabilities", "/v1/models/{owner:str}/{name:str}/capabilities"],
        operation_id=name_operation,
        tags=["models"],
        summary="Show what a model honours",
        response_description="The parameters.",
        responses=error_responses(*KEY, *ENGINE),
    )
    async def show_capabilities(
        self, request: Request[None, None, State], inference: NamedDependency[Inference], name: Name, owner: Owner = ""
    ) -> ModelParameters:
        """Show what a model honours of the parameters that each route has; the same tables refuse the others."""
        return to_parameters(_find(request, inference, owner, name)[1])

    @get(
        "/version",
        operation_id="version",
        tags=["health"],
        summary="Show the version",
        response_description="The version.",
        responses=error_responses(*KEY),
    )
    async def version(self) -> Version:
        """Say which release answers."""
        return Version(__version__)


def to_parameters(card: ModelCard) -> ModelParameters:
    """Say what becomes of every parameter."""
    return ModelParameters(
        id=card.name,
        capabilities=tuple(sorted(card.capabilities)),
        routes={
            route: Parameters(tuple(honoured(kind, card)), tuple(taken(kind)), tuple(refused(kind, card)))
            for route, kind in KINDS.items()
        }
        | {"messages": Parameters(*sort_out(card))},
    )


def _find(
    request: Request[None, None, State], inference: Inference, owner: str, name: str
) -> tuple[HostedEngine, ModelCard]:
    """Find a model that the caller may use, loaded or not; raise `UnknownModel`."""
    return inference.routing.find_any(full_name(owner, name), caller_of(request.scope))


def _to_object(inference: Inference, seat: HostedEngine, card: ModelCard) -> ModelObject:
    return ModelObject(
        id=card.name,
        created=_STARTED,
        owned_by=card.owner,
        aliases=(*card.aliases, *inference.routing.aliases(seat)) if card is seat.cards[0] else card.aliases,
        engine=seat.name,
        loaded=seat.engine is not None,
        context_window=card.context_window,
        capabilities=tuple(sorted(card.capabilities)),
        device=card.device,
        dtype=card.dtype,
        note=card.note,
    )
