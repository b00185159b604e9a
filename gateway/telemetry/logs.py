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
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from time import monotonic

import loguru
import msgspec
from loguru import logger

from gateway.config import TelemetrySettings, has_colors
from gateway.engine.progress import step_of
from gateway.telemetry.context import current_record, request_id
from gateway.telemetry.log_writer import LogWriter
from gateway.telemetry.steps import StepLines, Steps
from gateway.telemetry.text import COLORS, Scalar, text_line

STDOUT = 1
_encode = msgspec.json.Encoder().encode
# Keys of ours, of OpenAI's kind and of the Hub, wherever they may have slipped into a line.
_STARTS = ("llmg_", "sk-", "hf_")
_SECRET = re.compile(rf"\b({'|'.join(_STARTS)})[A-Za-z0-9_-]{{8,}}")
_REPEAT_SECONDS = 60.0
# Of a terminal that does not say.
_COLUMNS = 80
# A tuple, for a union would be put together again for every field.
_PLAIN = (str, int)


def configure(settings: TelemetrySettings, fd: int = STDOUT) -> "LogSink":
    """Send every log of this process to `fd`; call it in the process that logs, for the writer's thread is its own."""
    columns = (os.get_terminal_size(fd).columns or _COLUMNS) if os.isatty(fd) else 0
    is_json = settings.log_format == "json" or (settings.log_format == "auto" and not columns)
    lowest = logger.level(settings.log_level).no
    sink = LogSink(LogWriter(fd, tell=_tell_lost), columns, lowest, is_json=is_json)
    logger.remove()
    logger.add(
        sink,
        level=settings.log_level,
        format=lambda _: "",
        colorize=False,
        backtrace=False,
        diagnose=False,
    )
    capture()
    logging.getLogger().setLevel(lowest)
    return sink


def capture() -> None:
    """Take over all standard loggers; call it again after an import that may have set up its own."""
    logging.captureWarnings(capture=True)
    logging.getLogger().handlers[:] = [_INTERCEPT]
    for name in list(logging.Logger.manager.loggerDict):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True


def _tell_lost(lines: int) -> None:
    logger.bind(event="log_lost", lines=lines).warning(
        "{} lines of the log were lost: nothing read them in time", lines
    )


class LogSink:
    """Renders a record where it happens, for the context is there, and leaves the writing to `lines`.

    A terminal has `columns`; 0 means that there is none. Records below the level number `lowest` are left out.
    """

    def __init__(self, lines: LogWriter, columns: int, lowest: int = 0, *, is_json: bool) -> None:
        self._lines = lines
        self._lowest = lowest
        self._is_direct = is_json
        self._render = (
            _as_json if is_json else partial(_as_text, is_terminal=columns > 0, is_colored=columns > 0 and has_colors())
        )
        self._columns = 0 if is_json else columns
        self._steps: Steps | None = None

    @property
    def dropped(self) -> int:
        """The number of lines that were lost."""
        return self._lines.dropped

    def write(self, message: "loguru.Message") -> None:
        """Write a record; called by loguru, one at a time."""
        record = message.record
        if not self._is_line(record):
            return
        line = _without_secrets(self._render(record))
        if self._steps is None:
            self._lines.write(line)
        else:
            self._steps.write(line)

    def write_event(self, source: str, level: str, message: str, fields: Mapping[str, Scalar | None]) -> None:
        """Write what happened, as loguru would for `source`, the name of a logger; `message` is taken as it is.

        JSON is written at once, for loguru takes four times as long, to make its record: it finds the frame, the
        thread and the process of each.
        """
        if not self._is_direct:
            logger.bind(logger=source, **fields).log(level, "{}", message)
        elif _number(level) >= self._lowest:
            line: dict[str, Scalar] = {"time": _utc(datetime.now(UTC)), "level": level, "message": message}
            _add_fields(line, source, fields)
            self._lines.write(_without_secrets(_to_ascii(line) + "\n"))

    def close(self, timeout: float) -> None:
        """Take the bars off the screen and wait until all is written, for at most `timeout` seconds."""
        if self._steps is not None:
            self._steps.close()
        self._lines.flush(timeout)

    async def complete(self) -> None:
        """Wait until what was logged is written; loguru asks for it in `logger.complete()`."""
        await asyncio.to_thread(self._lines.flush)

    def stop(self) -> None:
        """Write what can be written; loguru asks for it in `logger.remove()`."""
        self._is_direct = False  # other sinks may be there in its place
        self.close(0.0)
        self._lines.stop()

    def _is_line(self, record: "loguru.Record") -> bool:
        """Show a step of loading; return whether the record is a line too."""
        extra = record["extra"]
        engine, step = extra.get("engine"), extra.get("step")
        if step is None:
            if self._steps is not None and engine is not None and extra.get("event") != "engine_output":
                self._steps.end(str(engine))  # an engine that is ready, or was replaced, has no steps under way
            return True
        if self._steps is None:
            self._steps = self._new_steps()
        key = str(engine or extra.get("logger")), str(step)
        return self._steps.take(key, float(extra.get("progress", 1.0)), _without_secrets(record["message"]))

    def _new_steps(self) -> Steps:
        if self._columns:
            from gateway.telemetry.bars import StepBars  # noqa: PLC0415 - rich is for terminals

            bars = StepBars(self._lines.write, self._columns)
            if bars.is_possible:
                return bars
        return StepLines(self._lines.write)


def _without_secrets(text: str) -> str:
    if any(start in text for start in _STARTS):  # rarely; the pattern costs ten times as much
        return _SECRET.sub(r"\1***", text)
    return text


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
        fields: dict[str, str | float] = {"logger": record.name}
        if (step := step_of(record)) is not None:
            fields |= {"step": step[0], "progress": step[1]}
        logger.bind(**fields).opt(exception=record.exc_info).log(level, message)


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


def _add_fields(line: dict[str, Scalar], source: str, fields: Mapping[str, object]) -> None:
    """Add what is known; the context's word wins over the caller's, and the line's own over both."""
    line.setdefault("logger", source)
    request = current_record()
    known = (("request_id", request_id.get()), ("trace_id", request.trace_id), ("model", request.model))
    for name, value in known:
        if value:
            line.setdefault(name, value)
    for name, field in fields.items():
        if field is not None and name not in line:
            line[name] = field if isinstance(field, _PLAIN) else _scalar(field)


@lru_cache(maxsize=16)
def _number(level: str) -> int:
    return logger.level(level).no


def _source(record: "loguru.Record") -> str:
    return str(record["extra"].get("logger", record["name"]))


def _utc(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _scalar(value: object) -> Scalar:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, str | int) else str(value)


def _traceback(record: "loguru.Record") -> str:
    error = record["exception"]
    return "" if error is None else "".join(traceback.format_exception(error.type, error.value, error.traceback))


def _as_json(record: "loguru.Record") -> str:
    line: dict[str, Scalar] = {
        "time": _utc(record["time"].astimezone(UTC)),
        "level": record["level"].name,
        "message": record["message"],
    }
    _add_fields(line, _source(record), record["extra"])
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


def _as_text(record: "loguru.Record", *, is_terminal: bool, is_colored: bool) -> str:
    fields: dict[str, Scalar] = {}
    _add_fields(fields, _source(record), record["extra"])
    return text_line(record, fields, _traceback(record), is_terminal=is_terminal, is_colored=is_colored)
