"""The files of one caller: made of a form, found, listed, deleted."""

import time

from gateway.api.exchange.answer import HttpRequest
from gateway.api.exchange.paging import unknown_after
from gateway.api.files.content import FileContent
from gateway.api.files.form import UploadForm, read_form
from gateway.api.files.schema import FileList, to_object
from gateway.api.http.problems import Problem
from gateway.store import FilePurpose, FileRecord, Files

_PURPOSE, _ANCHOR, _SECONDS = "purpose", "expires_after[anchor]", "expires_after[seconds]"
_FIELDS = (_PURPOSE, _ANCHOR, _SECONDS)
_LEAST_SECONDS, _MOST_SECONDS = 3_600, 2_592_000
_DIGITS = 9


class StoredFiles:
    """The files of one caller. Methods raise `Problem` for one that is not there, and `StoreUnavailable`."""

    def __init__(self, files: Files, owner: str) -> None:
        self._files = files
        self._owner = owner

    async def upload(self, request: HttpRequest, identity: str) -> FileRecord:
        """Take the file that a request's form brings; raise `Problem`, or `QuotaExceeded`."""
        files, owner = self._files, self._owner
        most = files.settings.max_file_bytes
        upload = await files.begin(owner, identity)

        async def write(piece: bytes) -> None:
            files.reserve(owner, len(piece))
            await upload.write(piece)
            if upload.size > most:
                raise Problem("request_too_large", f"a file may have {most} bytes (files.max_file_bytes)", param="file")

        try:
            record = self._to_record(await read_form(request, _FIELDS, write), identity, upload.size)
            await files.add(owner, upload, record)
        finally:
            files.reserve(owner, -upload.size)
            await upload.drop()
        return record

    async def read(self, identity: str) -> FileRecord:
        """Return what is known of a file."""
        record = await self._files.get(self._owner, identity)
        if record is None:
            raise missing(identity)
        return record

    async def content(self, identity: str) -> FileContent:
        """Return the bytes of a file, as an answer."""
        record = await self.read(identity)
        return FileContent(await self._files.open(record.id), record.bytes)

    async def page(self, purpose: FilePurpose | None, after: str | None, limit: int, order: str) -> FileList:
        """List the files, or those of a purpose."""
        page = await self._files.page(
            self._owner, purpose=purpose, after=after, limit=limit, is_descending=order == "desc"
        )
        if page is None:
            raise unknown_after(after or "")
        shown = [to_object(record) for record in page.files]
        first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
        return FileList(list(shown), first, last, page.has_more)

    async def delete(self, identity: str) -> None:
        """Remove a file; raise `FileInUse` where a batch under way reads it."""
        if not await self._files.delete(self._owner, identity):
            raise missing(identity)

    def _to_record(self, form: UploadForm, identity: str, size: int) -> FileRecord:
        fields, now = form.fields, int(time.time())
        purpose = fields.get(_PURPOSE)
        if purpose is None:
            raise Problem("invalid_value", "purpose: this field is required", param=_PURPOSE)
        if purpose != "batch":
            raise Problem("invalid_value", "purpose: files are taken for `batch` only", param=_PURPOSE)
        if fields.get(_ANCHOR, "created_at") != "created_at":
            raise Problem("invalid_value", f"{_ANCHOR}: expected `created_at`", param=_ANCHOR)
        if not size:
            raise Problem("invalid_value", "file: it is empty", param="file")
        seconds = _seconds(fields) or int(self._files.settings.ttl_seconds)
        return FileRecord(
            id=identity,
            purpose="batch",
            filename=form.filename,
            bytes=size,
            created_at=now,
            expires_at=now + seconds,
        )


def _seconds(fields: dict[str, str]) -> int | None:
    text = fields.get(_SECONDS)
    if text is None:
        if _ANCHOR in fields:
            raise Problem("invalid_value", f"{_SECONDS}: this field is required", param=_SECONDS)
        return None
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else 0
    if not _LEAST_SECONDS <= seconds <= _MOST_SECONDS:
        expected = f"expected a number from {_LEAST_SECONDS} to {_MOST_SECONDS}"
        raise Problem("invalid_value", f"{_SECONDS}: {expected}", param=_SECONDS)
    return seconds


def missing(identity: str, param: str = "file_id") -> Problem:
    """Make the error for a file that is not there, or another caller's."""
    return Problem("not_found", f"there is no file {identity!r:.80} of yours", param=param)
