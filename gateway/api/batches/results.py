"""The files that a batch writes at its end: the answers, and the lines that failed, in the order of its lines."""

import time
from collections.abc import AsyncGenerator
from functools import partial

import msgspec
from msgspec import Raw
from ulid import ULID

from gateway.api.batches.asking import LineReply
from gateway.api.batches.line_schema import AnsweredLine, LineAnswer, LineFailure
from gateway.api.batches.lines import custom_id_of, read_lines
from gateway.store import BatchRecord, BatchTable, FileRecord, Files, LineResult

_PAGE = 256
EXPIRED = LineFailure("batch_expired", "This request could not be executed before the completion window expired.")
_encode = msgspec.json.Encoder().encode


def to_result(number: int, custom_id: str, reply: LineReply) -> LineResult:
    """Write the result of a line as the files have it."""
    answer = LineAnswer(reply.status, reply.request_id, Raw(reply.body))
    return LineResult(
        number=number,
        is_error=reply.is_error,
        text=_encode(AnsweredLine(_new_id(), custom_id, answer)) + b"\n",
        tokens=reply.tokens,
    )


class ResultWriter:
    """Writes the files of one batch; what it began before and did not finish is written anew."""

    def __init__(self, files: Files, owner: str, most_bytes: int) -> None:
        self._files = files
        self._owner = owner
        self._most_bytes = most_bytes

    async def write(self, record: BatchRecord) -> list[FileRecord]:
        """Write the files of a batch; raise `StoreUnavailable`."""
        made = list[FileRecord]()
        if record.output_file_id is not None:
            name = f"{record.id}_output.jsonl"
            made.append(await self._write(record, record.output_file_id, name, self._results(record, is_error=False)))
        if record.error_file_id is not None:
            lines = self._unanswered(record) if record.ending == "expired" else self._results(record, is_error=True)
            made.append(await self._write(record, record.error_file_id, f"{record.id}_error.jsonl", lines))
        return made

    async def _write(
        self, record: BatchRecord, identity: str, filename: str, lines: AsyncGenerator[bytes, None]
    ) -> FileRecord:
        upload = await self._files.open_new(identity)
        try:
            async for text in lines:
                await upload.write(text)
            await upload.keep()
        finally:
            await lines.aclose()
            await upload.drop()
        now = int(time.time())
        seconds = record.keep_seconds or int(self._files.settings.ttl_seconds)
        return FileRecord(
            id=identity,
            purpose="batch_output",
            filename=filename,
            bytes=upload.size,
            created_at=now,
            expires_at=now + seconds,
        )

    async def _results(self, record: BatchRecord, *, is_error: bool) -> AsyncGenerator[bytes, None]:
        async for _, text in self._numbered(record, is_error=is_error):
            yield text

    async def _numbered(self, record: BatchRecord, *, is_error: bool) -> AsyncGenerator[tuple[int, bytes], None]:
        after = 0
        asked = partial(BatchTable.results, identity=record.id, is_error=is_error, limit=_PAGE)
        while True:
            behind = after
            page = await self._files.store.run(lambda database: asked(BatchTable(database), after=behind))  # noqa: B023
            for number, text in page:
                yield number, text
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    async def _unanswered(self, record: BatchRecord) -> AsyncGenerator[bytes, None]:
        """Yield the lines that failed, and between them those that nothing was done for."""
        done = await self._files.store.run(lambda database: BatchTable(database).done(record.id))
        failed = {number: text async for number, text in self._numbered(record, is_error=True)}
        async for lines in read_lines(await self._files.open(record.input_file_id), self._most_bytes):
            for line in lines:
                if line.number in failed:
                    yield failed[line.number]
                elif line.number not in done:
                    yield _encode(AnsweredLine(_new_id(), custom_id_of(line), None, EXPIRED)) + b"\n"


def _new_id() -> str:
    return f"batch_req_{ULID()}"
