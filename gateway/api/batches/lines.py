"""The lines of a batch's file: read a few at a time, and checked before any of them is answered."""

import hashlib
import os
from collections.abc import AsyncGenerator, Callable
from functools import partial
from io import BufferedReader

import msgspec
from msgspec import Struct

from gateway.api.batches.line_schema import AskedLine, line_decoder
from gateway.api.http.problems import Problem
from gateway.api.http.validation import invalid_value
from gateway.store import BatchFault, beside_disk

# Bytes of lines that are read at once.
_READ = 256 * 1024
_MOST_FAULTS = 100
_DIGEST_BYTES = 16


class BatchLine(Struct, frozen=True):
    """One line, by its number from 1; `raw` is `None` where it has more bytes than a body may have."""

    number: int
    raw: bytes | None


async def read_lines(descriptor: int, most: int) -> AsyncGenerator[list[BatchLine], None]:
    """Yield the lines of an open file that are not blank, some at a time; the file is closed."""
    number = 0
    with os.fdopen(descriptor, "rb") as file:
        while lines := await beside_disk(partial(_read, file, most, number)):
            number = lines[-1].number
            yield [line for line in lines if line.raw is None or line.raw.strip()]


def _read(file: BufferedReader, most: int, number: int) -> list[BatchLine]:
    lines, size = list[BatchLine](), 0
    while size < _READ and (raw := file.readline(most + 1)):
        number += 1
        size += len(raw)
        is_long = len(raw) > most
        end = raw
        while is_long and not end.endswith(b"\n") and (end := file.readline(_READ)):
            size += len(end)
        lines.append(BatchLine(number, None if is_long else raw))
    return lines


class LineCheck:
    """Checks all lines of one batch, and remembers what is wrong.

    `check_body` raises `Problem` for a body that the endpoint could not take; it returns the model that is named.
    """

    def __init__(self, endpoint: str, most_lines: int, check_body: Callable[[bytes], str | None]) -> None:
        self.faults: list[BatchFault] = []
        self.is_hopeless = False  # the rest need not be looked at
        self.total = 0
        self._endpoint = endpoint
        self._most_lines = most_lines
        self._check_body = check_body
        self._seen: dict[bytes, int] = {}
        self._models: set[str | None] = set()

    @property
    def model(self) -> str | None:
        """The model that all lines name; `None` where they name several."""
        return next(iter(self._models)) if len(self._models) == 1 else None

    def see(self, lines: list[BatchLine]) -> None:
        """Check some more lines."""
        for line in lines:
            self.total += 1
            if self.total > self._most_lines:
                what = f"there are more than {self._most_lines} lines (batches.max_lines)"
                self.faults, self.is_hopeless = [BatchFault("too_many_lines", what)], True
            if self.is_hopeless:
                return
            self._see(line)

    def finish(self) -> None:
        """Note what is only known at the end."""
        if not self.total:
            self.faults = [BatchFault("empty_file", "the file has no line")]

    def _see(self, line: BatchLine) -> None:
        try:
            asked = parse(line)
            self._check_url(asked.url)
            self._check_id(asked.custom_id, line.number)
            self._models.add(self._check_body(bytes(asked.body)))
        except Problem as problem:
            self.faults.append(BatchFault(problem.code, problem.message, line.number, problem.param))
            self.is_hopeless = len(self.faults) >= _MOST_FAULTS

    def _check_url(self, url: str) -> None:
        if url != self._endpoint:
            what = f"url: the batch is for {self._endpoint}, and this line for {url[:60]}"
            raise Problem("invalid_value", what, param="url")

    def _check_id(self, custom_id: str, number: int) -> None:
        digest = hashlib.blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
        first = self._seen.setdefault(digest, number)
        if first != number:
            raise _Duplicate(f"custom_id: line {first} has it, too")


class _Duplicate(Problem):
    def __init__(self, message: str) -> None:
        super().__init__("invalid_value", message, param="custom_id")
        self.code = "duplicate_custom_id"


def parse(line: BatchLine) -> AskedLine:
    """Read a line; raise `Problem`."""
    if line.raw is None:
        raise Problem("request_too_large", "this line is longer than a body may be (server.max_body_bytes)")
    try:
        return line_decoder.decode(line.raw)
    except msgspec.ValidationError as error:
        raise invalid_value(error, line.raw, AskedLine) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Problem("invalid_json", f"this line is not valid JSON: {reason}") from error


def custom_id_of(line: BatchLine) -> str:
    """Return the custom id of a line that was checked before."""
    return parse(line).custom_id
