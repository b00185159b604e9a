"""The output of an engine's process: records of its log as JSON, one a line, among anything else that it prints."""

import logging
from collections.abc import Iterator

import loguru
import msgspec
from loguru import logger
from msgspec import Struct

from gateway.engine.progress import step_of

_LONGEST = 8192


class Record(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One record of the log in the engine's process; `step` and `progress` as in `gateway.engine.progress`."""

    level: str
    text: str
    step: str = ""
    progress: float = 0.0


class LineFormatter(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Write level and text, the traceback with it."""
        text = super().format(record)
        step, progress = step_of(record) or ("", 0.0)
        return msgspec.json.encode(Record(record.levelname, text, step, progress)).decode()


class Output:
    """Cuts what a process writes into lines, and logs each, at `level` unless it names one; long ones are cut off."""

    def __init__(self, log: "loguru.Logger", level: str = "INFO") -> None:
        self._log = log
        self._level = level
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        """Take the next piece; an empty one is the end."""
        for line in self._lines(piece):
            record = _read(line, self._level)
            if record.step:
                self._log.bind(step=record.step, progress=record.progress).log(record.level, "{}", record.text)
            elif record.text:
                self._log.log(record.level, "{}", record.text)

    def _lines(self, piece: bytes) -> Iterator[bytes]:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        yield from lines
        if not piece or len(self._rest) > _LONGEST:
            yield self._rest
            self._rest = b""


def _read(line: bytes, level: str) -> Record:
    try:
        record = msgspec.json.decode(line, type=Record)
        logger.level(record.level)
    except (msgspec.DecodeError, ValueError):
        # A bar that a library prints comes as one line: of what it wrote over itself, the last is left.
        last = line.rstrip(b"\r").rpartition(b"\r")[2]
        return Record(level, last[:_LONGEST].decode(errors="replace").rstrip())
    return record
