"""Logs: loguru in front, one line an event, standard logging caught, and no way to forge a line.

A line is a JSON object, or a text for people (`gateway.telemetry.text`). Both take the request's id, its trace and its
model from the context. Texts of others reach a line only escaped.
"""

import asyncio
import json
import logging
import math
import os
import re
import traceback
from collections.abc import Callable
from datetime import UTC
from functools import partial
from time import monotonic

import loguru
import msgspec
from loguru import logger

from gateway.config import TelemetrySettings
from gateway.telemetry.context import current_record, request_id
from gateway.telemetry.log_writer import LogWriter
from gateway.telemetry.text import COLORS, Scalar, text_line

STDOUT = 1
_encode = msgspec.json.Encoder().encode
# Keys of ours, of OpenAI's kind and of the Hub, wherever they may have slipped into a line.
_STARTS = ("llmg_", "sk-", "hf_")
_SECRET = re.compile(rf"\b({'|'.join(_STARTS)})[A-Za-z0-9_-]{{8,}}")
_REPEAT_SECONDS = 60.0


def configure(settings: TelemetrySettings, fd: int = STDOUT) -> LogWriter:
    """Send every log of this process to `fd`; call it in the process that logs, for the writer's thread is its own."""
    lines = LogWriter(fd)
    logger.remove()
    logger.add(
        _Sink(lines, _renderer(settings.log_format, is_terminal=os.isatty(fd))),
        level=settings.log_level,
        format=lambda _: "",
        colorize=False,
        backtrace=False,
        diagnose=False,
    )
    capture()
    logging.getLogger().setLevel(logger.level(settings.log_level).no)
    return lines


def capture() -> None:
    """Take over all standard loggers; call it again after an import that may have set up its own."""
    logging.captureWarnings(capture=True)
    logging.getLogger().handlers[:] = [_INTERCEPT]
    for name in list(logging.Logger.manager.loggerDict):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True


class _Sink:
    """Renders a record where it happens, for the context is there, and leaves the writing to `lines`."""

    def __init__(self, lines: LogWriter, render: "Callable[[loguru.Record], str]") -> None:
        self._lines = lines
        self._render = render

    def write(self, message: "loguru.Message") -> None:
        line = self._render(message.record)
        if any(start in line for start in _STARTS):  # rarely; the pattern costs ten times as much
            line = _SECRET.sub(r"\1***", line)
        self._lines.write(line)

    async def complete(self) -> None:
        """Wait until what was logged is written; loguru asks for it in `logger.complete()`."""
        await asyncio.to_thread(self._lines.flush)

    def stop(self) -> None:
        self._lines.stop()


class _Intercept(logging.Handler):
    """Hands what standard logging gets to loguru, under the name of its logger."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(_Seldom())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit the message are the library's fault
            message = str(record.msg)
        level = record.levelname if record.levelname in COLORS else record.levelno
        logger.bind(logger=record.name).opt(exception=record.exc_info).log(level, message)


class _Seldom(logging.Filter):
    """Lets the exporter of a dead collector complain once a minute instead of at every try."""

    def __init__(self) -> None:
        super().__init__()
        self._silent_until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("opentelemetry."):
            return True
        now = monotonic()
        if now < self._silent_until:
            return False
        self._silent_until = now + _REPEAT_SECONDS
        return True


_INTERCEPT = _Intercept()


def _renderer(log_format: str, *, is_terminal: bool) -> "Callable[[loguru.Record], str]":
    if log_format == "json" or (log_format == "auto" and not is_terminal):
        return _as_json
    return partial(_as_text, is_terminal=is_terminal)


def _add_fields(line: dict[str, Scalar], record: "loguru.Record") -> None:
    """Add what is known; the context's word wins over the caller's, and the line's own over both."""
    line.setdefault("logger", str(record["extra"].get("logger", record["name"])))
    request = current_record()
    known = (("request_id", request_id.get()), ("trace_id", request.trace_id), ("model", request.model))
    for name, value in known:
        if value:
            line.setdefault(name, value)
    for name, value in record["extra"].items():
        if value is not None:
            line.setdefault(name, _scalar(value))


def _scalar(value: object) -> Scalar:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, str | int) else str(value)


def _traceback(record: "loguru.Record") -> str:
    error = record["exception"]
    return "" if error is None else "".join(traceback.format_exception(error.type, error.value, error.traceback))


def _as_json(record: "loguru.Record") -> str:
    line: dict[str, Scalar] = {
        "time": record["time"].astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record["level"].name,
        "message": record["message"],
    }
    _add_fields(line, record)
    if trace := _traceback(record):
        line["exception"] = trace
    return _to_ascii(line) + "\n"


def _to_ascii(line: dict[str, Scalar]) -> str:
    """Write JSON in ASCII, where every character that could do harm is escaped; most lines are that anyway."""
    try:
        text = _encode(line)
    except (ValueError, OverflowError):  # a lone surrogate, a huge number
        return json.dumps(line)
    return text.decode() if text.isascii() and b"\x7f" not in text else json.dumps(line)


def _as_text(record: "loguru.Record", *, is_terminal: bool) -> str:
    fields: dict[str, Scalar] = {}
    _add_fields(fields, record)
    return text_line(record, fields, _traceback(record), is_terminal=is_terminal)
