"""One middleware around the whole app: a span, metrics and a log line for every HTTP request.

A route whose `opt` is `ROUTINE`, such as a probe, is never traced, and logged as DEBUG while all is well
or the models load.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from time import perf_counter
from types import MappingProxyType

from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from litestar.utils import normalize_path
from opentelemetry.trace import Status, StatusCode

from gateway.engine import UnknownModel
from gateway.telemetry import semconv
from gateway.telemetry.context import Outcome, RequestRecord, open_record, request_id
from gateway.telemetry.fault_domains import domain_of
from gateway.telemetry.logs import LogSink
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Attributes, Tracing, remote_parent, sampled

CLIENT_CLOSED = 499
NO_ROUTE = "unmatched"
ROUTINE: Mapping[str, bool] = MappingProxyType({"routine": True})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_PATH_LENGTH = 256


class TelemetryMiddleware:
    """Watches each HTTP request; handlers add what they know through `current_record()`."""

    def __init__(self, app: ASGIApp, tracing: Tracing, metrics: Metrics, log: LogSink) -> None:
        self._app = app
        self._log = log
        self._tracing = tracing
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, and write down how it went, however it ends."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._tracing)
        try:
            await self._app(scope, receive, exchange.send)
        except BaseException as error:
            exchange.broke(error)
            raise
        finally:
            exchange.settle(self._metrics, self._log)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, send: Send, tracing: Tracing) -> None:
        self._scope = scope
        self._send = send
        self._tracing = tracing
        self._begun_at = perf_counter()
        method = str(scope.get("method", ""))
        self._method = method if method in _METHODS else "OTHER"
        self._path = _clean(scope["path"])  # now, for routing may rewrite it
        self._peer = scope.get("client")  # now, for the client behind a trusted proxy takes its place
        self._status = 0
        self._bytes = 0
        self._ended_at = 0.0
        self._is_routine = False
        self._domain = ""
        self._record: RequestRecord = open_record(tracing.serve(self._method, remote_parent(scope["headers"])))

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on and take note of it."""
        if message["type"] == "http.response.body":
            self._bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                self._ended_at = perf_counter()  # the app may wait on for the client to leave
        elif message["type"] == "http.response.start":
            self._status = message["status"]
        return self._send(message)

    def broke(self, error: BaseException) -> None:
        """Take note of what ended the request: its client, or an unhandled error."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            return  # an answer that is not whole says so
        record = self._record
        record.code = record.code or "internal_error"
        record.outcome = "aborted" if self._status else "error"
        self._status = self._status or HTTPStatus.INTERNAL_SERVER_ERROR

    def settle(self, metrics: Metrics, log: LogSink) -> None:
        """End the span, count the request and log its line."""
        seconds = (self._ended_at or perf_counter()) - self._begun_at
        record = self._record
        record.close()
        record.outcome = record.outcome or self._outcome()
        has_left = record.outcome == "client_closed"
        if has_left:
            record.code = record.code or "client_closed_request"
            metrics.client_disconnects.add(1, self._phase())
        self._status = self._status or CLIENT_CLOSED
        route = str(self._scope.get("path_template") or self._path_of_another_method())
        handler = self._scope.get("route_handler")
        self._is_routine = handler is not None and "routine" in handler.opt
        self._domain = self._find_domain()
        self._count(metrics, route, seconds)
        self._end_span(route)
        self._write_line(log, route, seconds)

    def _phase(self) -> str:
        """Name the phase in which the client left."""
        if self._record.is_waiting:
            return "queue"
        return "stream" if self._status not in (0, CLIENT_CLOSED) else "compute"

    def _path_of_another_method(self) -> str:
        """Name the route that only the method missed, which Litestar does not; each of them takes OPTIONS."""
        if self._status != HTTPStatus.METHOD_NOT_ALLOWED or "litestar_app" not in self._scope:
            return NO_ROUTE
        router = self._scope["litestar_app"].asgi_router
        try:
            *_, template = router.handle_routing(path=normalize_path(self._scope["path"]), method="OPTIONS")
        except HTTPException:
            return NO_ROUTE
        return template

    def _outcome(self) -> Outcome:
        if not self._ended_at or self._status == CLIENT_CLOSED:
            return "client_closed"
        if self._status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return "error"
        if self._status >= HTTPStatus.BAD_REQUEST:
            return "refused"
        return "aborted" if self._record.code else "ok"

    def _count(self, metrics: Metrics, route: str, seconds: float) -> None:
        record, status = self._record, str(int(self._status))
        model = "unknown" if record.code == UnknownModel.code else record.model
        metrics.requests.add(1, status, route, model)
        is_sent = self._tracing.is_on and not self._is_routine
        trace = sampled(record.span) if is_sent else None
        metrics.request_duration.record(seconds, route, status, trace=trace)
        if self._domain:
            metrics.errors.add(1, self._domain, record.code or f"http_{status}", model)
        if record.outcome == "aborted":
            metrics.stream_aborts.add(1, record.code)
        elif record.outcome == "refused" or (record.code and self._status == HTTPStatus.SERVICE_UNAVAILABLE):
            metrics.rejected.add(1, record.code or f"http_{status}")

    def _find_domain(self) -> str:
        """Find the domain of what went wrong; empty where nothing did, and for a probe that says how things stand."""
        record = self._record
        if record.outcome == "ok" or (self._is_routine and not record.code):
            return ""
        return domain_of(record.code, self._status)

    def _end_span(self, route: str) -> None:
        span, record = self._record.span, self._record
        if self._is_routine:
            return  # a span without an end is never sent
        if span.is_recording():
            is_routed = route != NO_ROUTE
            span.update_name(f"{self._method} {route}" if is_routed else self._method)
            span.set_attributes(self._attributes() | ({semconv.HTTP_ROUTE: route} if is_routed else {}))
            if record.code or self._status >= HTTPStatus.BAD_REQUEST:
                span.set_attribute(semconv.ERROR_TYPE, record.code or str(int(self._status)))
                span.set_attribute(semconv.FAULT_DOMAIN, domain_of(record.code, self._status))
            if record.outcome in (
                "error",
                "aborted",
            ):  # a client's mistake leaves the status unset, as HTTP's rules say
                span.set_status(Status(StatusCode.ERROR))
        span.end()

    def _attributes(self) -> Attributes:
        scope = self._scope
        attributes: Attributes = {
            semconv.HTTP_METHOD: self._method if self._method in _METHODS else "_OTHER",
            semconv.HTTP_STATUS: int(self._status),
            semconv.URL_PATH: self._path,
            semconv.URL_SCHEME: scope["scheme"],
            semconv.PROTOCOL_VERSION: str(scope.get("http_version", "")),
            semconv.OUTCOME: self._record.outcome or "",
        }
        if own := request_id.get():
            attributes[semconv.REQUEST_ID] = own
        if self._record.key:
            attributes[semconv.KEY_ID] = self._record.key
        if (client := scope.get("client")) and self._peer:
            attributes[semconv.CLIENT_ADDRESS] = client[0]
            attributes[semconv.PEER_ADDRESS] = self._peer[0]
        if server := scope["server"]:
            attributes[semconv.SERVER_ADDRESS] = server[0]
            if server[1]:
                attributes[semconv.SERVER_PORT] = server[1]
        return attributes

    def _write_line(self, log: LogSink, route: str, seconds: float) -> None:
        record, status = self._record, int(self._status)
        is_quiet = self._is_routine and (record.outcome == "ok" or record.is_expected)
        fields = {
            "event": "request",
            "method": self._method,
            "route": route,
            "path": self._path,
            "client": client[0] if (client := self._scope.get("client")) else None,
            "key_id": record.key or None,
            "status": status,
            "code": record.code or None,
            "domain": self._domain or None,
            "outcome": record.outcome,
            "duration_ms": round(seconds * 1e3, 3),
            "queue_ms": _milliseconds(record.queue),
            "ttft_ms": _milliseconds(record.ttft),
            "prompt_tokens": record.prompt_tokens or None,
            "tokens": record.tokens or None,
            "finish_reason": record.finish_reason or None,
            "bytes": self._bytes,
        }
        log.write_event(__name__, "DEBUG" if is_quiet else "INFO", f"{self._method} {route} {status}", fields)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)


def _clean(path: str) -> str:
    """Cut a path to a bearable length, and to what UTF-8 can write: one bad text would lose a whole batch of spans."""
    return path[:_PATH_LENGTH].encode("utf-8", "replace").decode()
