"""A collector for tests: it takes OTLP spans over gRPC and HTTP/protobuf and shows the tree that Jaeger would show."""

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Node:
    """A span with its children, in the order of their starts."""

    span: Span
    children: list["Node"] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def attributes(self) -> dict[str, Any]:
        return {pair.key: plain(pair.value) for pair in self.span.attributes}

    def outline(self, depth: int = 0) -> str:
        """The names, each below its parent and two spaces to the right of it."""
        return "\n".join(["  " * depth + self.name, *[child.outline(depth + 1) for child in self.children]])


class OtlpReceiver:
    """Collects what is sent to it; `grpc_endpoint` and `http_endpoint` are what `OTEL_EXPORTER_OTLP_ENDPOINT` takes."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.grpc_endpoint = ""
        self.http_endpoint = ""
        self._arrived = threading.Condition()

    def take(self, request: ExportTraceServiceRequest, headers: dict[str, str]) -> None:
        with self._arrived:
            self.headers.append(headers)
            for part in request.resource_spans:
                self.resources.append({pair.key: plain(pair.value) for pair in part.resource.attributes})
                self.spans += [span for scope in part.scope_spans for span in scope.spans]
            self._arrived.notify_all()

    def wait_for(self, count: int, timeout: float = 20.0) -> list[Span]:
        """Wait until `count` spans have come."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.spans) >= count, timeout):
                raise TimeoutError(f"{len(self.spans)} of {count} spans came in {timeout} s")
            return list(self.spans)

    def roots(self) -> list[Node]:
        """The trees of all that came; a span whose parent did not come is a root."""
        with self._arrived:
            spans = sorted(self.spans, key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano))
        nodes = {span.span_id: Node(span) for span in spans}
        for span in spans:
            if span.parent_span_id in nodes:
                nodes[span.parent_span_id].children.append(nodes[span.span_id])
        return [nodes[span.span_id] for span in spans if span.parent_span_id not in nodes]


def plain(value: AnyValue) -> Any:
    """Turn an OTLP value into a Python one."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """Run a receiver on two free ports of the loopback."""
    receiver = OtlpReceiver()
    rpc = grpc.server(futures.ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(_Service(receiver), rpc)
    receiver.grpc_endpoint = f"http://127.0.0.1:{rpc.add_insecure_port('127.0.0.1:0')}"
    web = ThreadingHTTPServer(("127.0.0.1", 0), _handler(receiver))
    receiver.http_endpoint = f"http://127.0.0.1:{web.server_address[1]}"
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    rpc.start()
    thread.start()
    try:
        yield receiver
    finally:
        rpc.stop(None).wait()
        web.shutdown()
        web.server_close()
        thread.join()


class _Service(TraceServiceServicer):
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    def Export(self, request, context):  # noqa: N802 - the name is the protocol's
        self._receiver.take(request, dict(context.invocation_metadata()))
        return ExportTraceServiceResponse()


def _handler(receiver: OtlpReceiver) -> type[BaseHTTPRequestHandler]:
    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path != "/v1/traces":
                self.send_error(404)
                return
            receiver.take(ExportTraceServiceRequest.FromString(body), {k.lower(): v for k, v in self.headers.items()})
            self._answer(ExportTraceServiceResponse().SerializeToString())

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            """Say nothing."""

    return Endpoint
