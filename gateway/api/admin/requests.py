"""`/v1/requests`: the caller's requests that wait or run."""

from typing import Annotated, Literal

from litestar import Controller, Request, delete, get
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import PathParameter
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta, Struct

from gateway.api.http.access import caller_of
from gateway.api.http.problems import Problem
from gateway.api.reference.errors import KEY, error_responses
from gateway.api.reference.examples import REQUEST_ID
from gateway.inflight import InFlightRequest
from gateway.service import Inference

Id = Annotated[
    str, PathParameter(description="The request's id, its `x-request-id`.", examples=[Example(value=REQUEST_ID)])
]


class LiveRequest(Struct, frozen=True, kw_only=True):
    """One request that waits or runs."""

    id: Annotated[str, Meta(description="The request's id, its `x-request-id`.", examples=[REQUEST_ID])]
    object: Literal["request"] = "request"
    model: Annotated[str, Meta(description="The model's name.", examples=["smollm2-135m-instruct"])]
    phase: Annotated[Literal["queued", "prefill", "decode"], Meta(description="What it is at.")]
    position: Annotated[int | None, Meta(description="Its position in the queue; 1 is next.", examples=[1])]
    eta: Annotated[float | None, Meta(description="Seconds until its place, as far as was measured.", examples=[0.8])]
    seconds: Annotated[float, Meta(description="How long it has been here.", examples=[1.5])]
    prompt_tokens: Annotated[int | None, Meta(description="Tokens of the prompt, once known.", examples=[5])]
    tokens: Annotated[int, Meta(description="Tokens of the answer up to now.", examples=[12])]
    key: Annotated[str | None, Meta(description="The id of the caller's key.", examples=["k3f9a0c2d1"])]


class RequestList(Struct, frozen=True):
    """The requests that the caller may know of, the oldest first."""

    object: Literal["list"]
    data: list[LiveRequest]


class CancelledRequest(Struct, frozen=True):
    """A request that was ended."""

    id: str
    object: Literal["request.cancelled"] = "request.cancelled"


class RequestsController(Controller):
    """The live requests."""

    path = "/v1/requests"
    tags = ("requests",)

    @get(
        operation_id="listRequests",
        summary="List what waits and runs",
        response_description="The requests: the caller's own; all of them for an admin.",
        responses=error_responses(*KEY),
    )
    async def listing(self, request: Request[None, None, State], inference: NamedDependency[Inference]) -> RequestList:
        """List the caller's requests that wait or run; an admin sees those of all keys."""
        entries = inference.in_flight.seen_by(caller_of(request.scope))
        return RequestList("list", [_to_object(entry) for entry in entries])

    @delete(
        "/{request_id:str}",
        status_code=HTTP_200_OK,
        operation_id="cancelRequest",
        summary="End a request",
        response_description="It is ended; the client that waits for its answer gets the error `cancelled`.",
        responses=error_responses(*KEY, "not_found"),
    )
    async def cancel(
        self, request_id: Id, request: Request[None, None, State], inference: NamedDependency[Inference]
    ) -> CancelledRequest:
        """End one of the caller's requests; an admin may end those of any key."""
        if not inference.in_flight.cancel(request_id, caller_of(request.scope)):
            raise Problem("not_found", "there is no such request of yours; it may be over")
        return CancelledRequest(request_id)


def _to_object(entry: InFlightRequest) -> LiveRequest:
    position, watch = entry.position, entry.telemetry
    return LiveRequest(
        id=entry.request.id,
        model=entry.target.card.name,
        phase=entry.phase,
        position=position.position if position else None,
        eta=position.eta if position else None,
        seconds=round(entry.seconds, 3),
        prompt_tokens=watch.prompt_tokens,
        tokens=watch.usage.completion_tokens,
        key=entry.caller.id or None,
    )
