"""`/v1/files`: uploaded, listed, read and deleted."""

from typing import Annotated, Literal

from litestar import Controller, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter
from litestar.response.base import ASGIResponse
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp
from msgspec import json

from gateway.api.exchange.answer import HttpRequest
from gateway.api.exchange.paging import After, ListOrder, refuse_unknown
from gateway.api.files.operation import CONTENT_OPERATION, FILE_OPERATION, UPLOAD_OPERATION
from gateway.api.files.schema import FILE_ID, DeletedFile, FileList, to_object
from gateway.api.files.stored import StoredFiles
from gateway.api.http.access import caller_of
from gateway.api.http.limits import UPLOADS
from gateway.api.reference.errors import KEY, error_responses
from gateway.service import Inference
from gateway.store import FileRecord
from gateway.telemetry import request_id

_STORED = (*KEY, "not_found", "invalid_value", "unsupported_parameter", "store_unavailable")
_UPLOAD = ("unsupported_media_type", "body_timeout", "request_too_large", "quota_exceeded", "invalid_json")
_ERRORS = error_responses(*_STORED)
FilePath = Annotated[str, PathParameter(description="The file's id.", examples=[Example(value=FILE_ID)])]
ManyFiles = Annotated[int, QueryParameter(ge=1, le=10_000, description="How many there are at most in the answer.")]
OfPurpose = Annotated[
    Literal["batch", "batch_output"] | None, QueryParameter(description="Only those of this purpose. Left out: all.")
]


class FileController(Controller):
    """The files of a caller; another caller's are not there."""

    path = UPLOADS
    tags = ("batches",)

    @post(
        status_code=HTTP_200_OK,
        operation_id="uploadFile",
        operation_class=UPLOAD_OPERATION,
        summary="Upload a file",
        responses=error_responses(*_STORED, *_UPLOAD),
    )
    async def upload(self, request: HttpRequest, inference: NamedDependency[Inference]) -> ASGIApp:
        """Take a file with the lines of a batch: a form with its `purpose` and the `file` itself."""
        return _json(await _of(request, inference).upload(request, f"file-{request_id.get()}"))

    @get(
        operation_id="listFiles",
        summary="Files",
        response_description="Files.",
        responses=_ERRORS,
    )
    async def page(  # noqa: PLR0913 - the parameters of the URL
        self,
        request: HttpRequest,
        inference: NamedDependency[Inference],
        *,
        purpose: OfPurpose = None,
        limit: ManyFiles = 10_000,
        after: After = None,
        order: ListOrder = "desc",
    ) -> FileList:
        """List files."""
        refuse_unknown(request, "purpose", "limit", "after", "order")
        return await _of(request, inference).page(purpose, after, limit, order)

    @get(
        "/{file_id:str}",
        operation_id="getFile",
        operation_class=FILE_OPERATION,
        summary="A file",
        responses=_ERRORS,
    )
    async def read(self, request: HttpRequest, inference: NamedDependency[Inference], file_id: FilePath) -> ASGIApp:
        """Return what is known of a file."""
        return _json(await _of(request, inference).read(file_id))

    @get(
        "/{file_id:str}/content",
        operation_id="getFileContent",
        operation_class=CONTENT_OPERATION,
        summary="The content of a file",
        responses=_ERRORS,
    )
    async def content(self, request: HttpRequest, inference: NamedDependency[Inference], file_id: FilePath) -> ASGIApp:
        """Return the bytes of a file."""
        return await _of(request, inference).content(file_id)

    @delete(
        "/{file_id:str}",
        status_code=HTTP_200_OK,
        operation_id="deleteFile",
        summary="Delete a file",
        response_description="It is no longer there.",
        responses=error_responses(*_STORED, "file_in_use"),
    )
    async def forget(
        self, request: HttpRequest, inference: NamedDependency[Inference], file_id: FilePath
    ) -> DeletedFile:
        """Delete a file, unless a batch under way reads it."""
        await _of(request, inference).delete(file_id)
        return DeletedFile(file_id)


def _of(request: HttpRequest, inference: Inference) -> StoredFiles:
    return StoredFiles(inference.files, caller_of(request.scope).id)


def _json(record: FileRecord) -> ASGIResponse:
    return ASGIResponse(body=json.encode(to_object(record)), media_type="application/json")
