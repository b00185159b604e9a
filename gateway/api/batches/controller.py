"""`/v1/batches`: made, read, listed and cancelled."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import PathParameter
from litestar.response.base import ASGIResponse
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp
from msgspec import json

from gateway.api.batches.operation import BATCH_OPERATION, CREATE_OPERATION
from gateway.api.batches.runner import BatchRunner
from gateway.api.batches.schema import BATCH_ID, BatchList, BatchObject, batch_decoder
from gateway.api.batches.stored import StoredBatches
from gateway.api.exchange.answer import HttpRequest
from gateway.api.exchange.paging import After, Limit, refuse_unknown
from gateway.api.http.access import caller_of
from gateway.api.http.body import decode_body, name_ignored
from gateway.api.reference.errors import BODY, KEY, error_responses
from gateway.service import Inference
from gateway.telemetry import request_id

_STORED = (*KEY, "not_found", "invalid_value", "unsupported_parameter", "store_unavailable")
_ERRORS = error_responses(*_STORED)
BatchPath = Annotated[str, PathParameter(description="The batch's id.", examples=[Example(value=BATCH_ID)])]


class BatchController(Controller):
    """The batches of a caller; another caller's are not there."""

    path = "/v1/batches"
    tags = ("batches",)

    @post(
        status_code=HTTP_200_OK,
        operation_id="createBatch",
        operation_class=CREATE_OPERATION,
        summary="Make a batch",
        responses=error_responses(*_STORED, *BODY, "too_many_batches"),
    )
    async def create(
        self, request: HttpRequest, inference: NamedDependency[Inference], batches: NamedDependency[BatchRunner]
    ) -> ASGIApp:
        """Have the lines of a file answered while no client waits for the model."""
        body, unknown, _ = await decode_body(request, batch_decoder)
        headers = name_ignored(unknown, inference.config.server)
        most = inference.config.batches.per_key
        made = await _of(request, inference).create(body, f"batch_{request_id.get()}", most)
        batches.wake()
        return _json(made, headers)

    @get(operation_id="listBatches", summary="Batches", response_description="Batches.", responses=_ERRORS)
    async def page(
        self, request: HttpRequest, inference: NamedDependency[Inference], *, limit: Limit = 20, after: After = None
    ) -> BatchList:
        """List batches, the newest one first."""
        refuse_unknown(request, "limit", "after")
        return await _of(request, inference).page(after, limit)

    @get(
        "/{batch_id:str}",
        operation_id="getBatch",
        operation_class=BATCH_OPERATION,
        summary="A batch",
        responses=_ERRORS,
    )
    async def read(self, request: HttpRequest, inference: NamedDependency[Inference], batch_id: BatchPath) -> ASGIApp:
        """Return a batch, and how far it is."""
        return _json(await _of(request, inference).read(batch_id))

    @post(
        "/{batch_id:str}/cancel",
        status_code=HTTP_200_OK,
        operation_id="cancelBatch",
        operation_class=BATCH_OPERATION,
        summary="Cancel a batch",
        responses=_ERRORS,
    )
    async def cancel(
        self,
        request: HttpRequest,
        inference: NamedDependency[Inference],
        batches: NamedDependency[BatchRunner],
        batch_id: BatchPath,
    ) -> ASGIApp:
        """End a batch with what there is; its files are there once it is `cancelled`."""
        cancelled = await _of(request, inference).cancel(batch_id)
        batches.wake()
        return _json(cancelled)


def _of(request: HttpRequest, inference: Inference) -> StoredBatches:
    return StoredBatches(inference.store, caller_of(request.scope).id)


def _json(batch: BatchObject, headers: dict[str, str] | None = None) -> ASGIResponse:
    return ASGIResponse(body=json.encode(batch), media_type="application/json", headers=headers or {})
