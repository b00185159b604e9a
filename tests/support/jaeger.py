"""A real Jaeger, where this machine has one: `just jaeger` builds it. Traces are read through its query API."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.service import free_port

# `just jaeger` puts the program here; `JAEGER` names another.
PROGRAM = Path(
    os.environ.get("JAEGER")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "llm-gateway-tools", "jaeger-1.76.0")
)
MISSING = f"no Jaeger at {PROGRAM}; `just jaeger` builds it"
_START_SECONDS = 60
_PATIENCE = 60


@dataclass
class JaegerSpan:
    """A span as Jaeger tells it, with its children by their starts; times are in microseconds since 1970."""

    name: str
    trace_id: str
    span_id: str
    service: str
    parent: str
    links: list[tuple[str, str]]
    begin: int
    end: int
    tags: dict[str, Any]
    events: list[dict[str, Any]]
    warnings: list[str]
    children: list["JaegerSpan"] = field(default_factory=list)

    def outline(self, depth: int = 0) -> str:
        """The names, each below its parent and two spaces to the right of it."""
        return "\n".join(["  " * depth + self.name, *[child.outline(depth + 1) for child in self.children]])

    def walk(self) -> Iterator["JaegerSpan"]:
        """Yield this span and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def find(self, name: str) -> "JaegerSpan":
        """Find the one span of this name."""
        (found,) = [span for span in self.walk() if span.name == name]
        return found


class Jaeger:
    """A running Jaeger: `grpc` and `http` are what `OTEL_EXPORTER_OTLP_ENDPOINT` takes, `url` is that of its API."""

    def __init__(self) -> None:
        self.grpc, self.http, self.url = (f"http://127.0.0.1:{free_port()}" for _ in range(3))

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data that the API has, `None` where it has none."""
        return httpx.get(f"{self.url}/api/{path}", params=parameters, timeout=10, trust_env=False).json()["data"]

    def tree(self, service: str, answer: httpx.Response, spans: int) -> JaegerSpan:
        """Wait for the trace of an answer of so many spans, found by its request's id, and return its one root."""
        tags = json.dumps({"llm_gateway.request.id": answer.headers["x-request-id"]})
        until = time.monotonic() + _PATIENCE
        while True:
            traces = self.ask("traces", service=service, tags=tags) or []
            found = [_span(told, trace["processes"]) for trace in traces for told in trace["spans"]]
            if len(found) >= spans:
                return _tree(found)
            if time.monotonic() > until:
                raise TimeoutError(f"Jaeger has {sorted(span.name for span in found)}, not {spans} spans")
            time.sleep(0.1)


@contextlib.contextmanager
def jaeger(folder: Path) -> Iterator[Jaeger]:
    """Run a Jaeger that keeps its traces in memory and writes its log to `folder`."""
    it, log = Jaeger(), folder / "jaeger.log"
    ports = {
        "collector.otlp.grpc": it.grpc,
        "collector.otlp.http": it.http,
        "query.http-server": it.url,
        **dict.fromkeys(("query.grpc-server", "admin.http", "collector.grpc-server", "collector.http-server"), ":0"),
    }
    flags = [f"--{name}.host-port=127.0.0.1:{place.rpartition(':')[2]}" for name, place in ports.items()]
    environment = os.environ | {"SPAN_STORAGE_TYPE": "memory"}
    with (
        log.open("wb") as output,
        subprocess.Popen([PROGRAM, *flags], stdout=output, stderr=output, env=environment) as process,
    ):
        try:
            _wait_until_up(it, process, log)
            yield it
        finally:
            process.terminate()


def _wait_until_up(it: Jaeger, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{it.url}/api/services", trust_env=False).is_success:
                return
        time.sleep(0.05)
    raise RuntimeError(f"Jaeger did not start: {log.read_text(errors='replace')[-2000:]}")


def _span(told: dict[str, Any], processes: dict[str, Any]) -> JaegerSpan:
    own = told["traceID"]
    references = [(each["refType"], each["traceID"], each["spanID"]) for each in told["references"]]
    parents = [span for kind, trace, span in references if kind == "CHILD_OF" and trace == own]
    return JaegerSpan(
        name=told["operationName"],
        trace_id=own,
        span_id=told["spanID"],
        service=processes[told["processID"]]["serviceName"],
        parent=parents[0] if parents else "",
        links=[(trace, span) for kind, trace, span in references if kind == "FOLLOWS_FROM"],
        begin=told["startTime"],
        end=told["startTime"] + told["duration"],
        tags={tag["key"]: tag["value"] for tag in told["tags"]},
        events=[{field["key"]: field["value"] for field in event["fields"]} for event in told["logs"]],
        warnings=told["warnings"] or [],
    )


def _tree(spans: list[JaegerSpan]) -> JaegerSpan:
    known = {span.span_id: span for span in spans}
    for span in sorted(spans, key=lambda span: (span.begin, span.end)):
        if span.parent in known:
            known[span.parent].children.append(span)
    (root,) = [span for span in spans if span.parent not in known]
    return root
