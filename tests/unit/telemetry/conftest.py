import logging
import os
from types import SimpleNamespace

import pytest
from loguru import logger
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from gateway.config import TelemetrySettings
from gateway.engine import Completion, GenerateRequest, ModelCard, Sampling
from gateway.telemetry import Telemetry, context, logs


@pytest.fixture
def standard_logging():
    """Leave standard logging and loguru as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    context._record.set(None)
    logger.remove()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def log(tmp_path, standard_logging):
    """Configure logs with `log.configure(**settings)`; `log.text()` is what was written."""
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    made = SimpleNamespace(lines=None)

    def configure(**settings):
        made.lines = logs.configure(TelemetrySettings(**{"log_format": "json", **settings}), fd)
        return made.lines

    def text():
        assert made.lines._lines.flush(20)
        return path.read_text(encoding="utf-8")

    made.configure, made.text = configure, text
    yield made
    logger.remove()
    os.close(fd)


@pytest.fixture
async def watched(log):
    """Telemetry that records spans in memory: `watched.telemetry`, `watched.spans()`."""
    exporter = InMemorySpanExporter()
    telemetry = Telemetry(TelemetrySettings(), log.configure(), exporter)

    def spans():
        telemetry.tracing._provider.force_flush()
        return {span.name: span for span in exporter.get_finished_spans()}

    yield SimpleNamespace(telemetry=telemetry, spans=spans, log=log)
    await telemetry.stop()


@pytest.fixture
def card():
    return ModelCard(name="tiny", context_window=64, capabilities=frozenset(), dtype="float32", owner="me")


@pytest.fixture
def request_():
    return GenerateRequest(
        id="01J",
        model="tiny",
        prompt=Completion("PROMPT-CANARY"),
        sampling=Sampling(max_tokens=7, temperature=0.5, stop=("STOP-CANARY",)),
    )


@pytest.fixture
def samples(watched):
    """Read a metric: `samples(name)` gives {labels: value}."""

    def read(name):
        watched.telemetry.metrics._rendered.clear()
        text = watched.telemetry.metrics.render()[0].decode()
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        }

    return read
