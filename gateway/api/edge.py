"""The layer around all routes: a request id for every answer, a known host, a bounded body, a last-chance 500.

HEAD is GET without the body, on every route; the routes themselves know nothing of it.
"""

import re
from collections.abc import Callable, Collection
from functools import lru_cache

from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from loguru import logger

from gateway.api.errors import Errors
from gateway.api.http.cors import check_origin
from gateway.api.http.forwarded import take_forwarded
from gateway.api.http.ids import RequestIds
from gateway.api.http.incoming import IncomingBody
from gateway.api.http.limits import to_limits
from gateway.api.http.outgoing import PIECE, Outgoing
from gateway.api.http.problems import Problem
from gateway.config import ServerSettings
from gateway.config.snapshot import CurrentConfig
from gateway.flow.budget import ByteBudget
from gateway.telemetry import current_record, request_id

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_ANY = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - names the addresses that stand for all, binds none
_SINGLE = frozenset({b"content-length", b"content-type", b"origin", b"prefer", b"x-request-timeout"})
_OLD_HTTP = frozenset({"1", "1.0"})  # as granian says it, and as ASGI does
# Open to every host: they say whether the service is there, and nothing else.
PROBES = frozenset({"/livez", "/readyz", "/health", "/ping"})
_WHOLE_SERVER = frozenset({"*", "/*"})
_METHODS = b"DELETE, GET, HEAD, OPTIONS, POST"
_FRAMING = frozenset({b"connection", b"content-length"})
_HOST = re.compile(r"(\[[\da-f:.]+\]|[\w.~%-]+)(:\d*)?", re.ASCII | re.IGNORECASE)


class Edge:
    """Wraps the application; what it refuses never reaches a route. While it `is_leaving`, connections are not kept."""

    def __init__(
        self, app: ASGIApp, current: CurrentConfig, errors: Errors, *, is_leaving: Callable[[], bool] = lambda: False
    ) -> None:
        self.in_flight = 0
        # Both as they were at the start: what is held is counted against one limit.
        self.bodies = ByteBudget(current.config.server.held_body_bytes)
        self.outgoing = Outgoing(current.config.server.unsent_bytes)
        self.errors = errors
        self.ids = RequestIds()
        self.is_leaving = is_leaving
        self._app = app
        self._current = current
        self._root = current.config.server.root_path  # as the pages were made for it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        is_bare = scope["method"] == HttpMethod.HEAD
        config = self._current.config
        if self._root:
            _leave_root(scope, self._root)
        host = take_forwarded(scope, config.server) if config.server.forwarded_allow else ""
        body = IncomingBody(scope, receive, to_limits(scope["path"], config), self.bodies)
        answer = _Answer(send, body, scope["path"], self, is_bare=is_bare)
        answer.stall_seconds = config.server.stall_seconds
        request_id.set(answer.id)
        self.in_flight += 1
        try:
            _check_host(scope, config.server)
            if host:
                _take_host(scope, host, config.server)
            _check_single(scope)
            check_origin(scope, config.cors)
            if scope["method"] == HttpMethod.OPTIONS and scope["path"] in _WHOLE_SERVER:
                await answer.say_methods()
                return
            if is_bare:
                scope["method"] = HttpMethod.GET
            await self._app(scope, body.receive, answer.send)
        except Problem as problem:
            await answer.fail(problem)
        except Exception as error:  # noqa: BLE001 - the last chance to answer at all
            logger.opt(exception=error).error("a request failed in a way that nothing foresaw")
            await answer.fail(Problem("internal_error"))
        finally:
            self.in_flight -= 1
            # A traceback may live on in a cycle; while it held granian's ends, the connection would not be closed.
            body.let_go()
            answer.let_go()


class _Answer:
    """One answer on its way out: gets the request id, and comes behind the whole body, or closes the connection."""

    def __init__(self, send: Send, body: IncomingBody, path: str, edge: Edge, *, is_bare: bool) -> None:
        self._send = send
        self._body = body
        self._path = path
        self._edge = edge
        self._is_bare = is_bare
        self._begun = False
        self._lingers = False
        self.stall_seconds = 0.0
        self.id = edge.ids.new()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            headers = [_with_head(name, value) for name, value in message.get("headers", ())]
            ids = [(name, self.id.encode()) for name in self._edge.errors.words(self._path).id_headers]
            if self._edge.is_leaving() and not any(name == b"connection" for name, _ in headers):
                ids.append((b"connection", b"close"))  # the next request is for another replica
            message["headers"] = [*headers, *ids]
            if not self._body.is_whole and not await self._body.drain():
                self._lingers = True
                # With its length said, an answer is over once it is sent; in chunks it is over when the body is read.
                kept = [header for header in message["headers"] if header[0] not in _FRAMING]
                message["headers"] = [*kept, (b"connection", b"close")]
        elif self._is_bare and message["type"] == "http.response.body":
            message["body"] = b""
        if self._lingers and message["type"] == "http.response.body" and not message["more_body"]:
            await self._send({"type": "http.response.body", "body": message["body"], "more_body": True})
            await self._body.linger()
            message["body"] = b""
        if message["type"] == "http.response.body" and len(message["body"]) > PIECE:
            await self._send_in_pieces(message["body"], more_body=message["more_body"])
        else:
            await self._send(message)

    async def _send_in_pieces(self, body: bytes, *, more_body: bool) -> None:
        try:
            await self._edge.outgoing.send(self._send, body, self.stall_seconds, more_body=more_body)
        except TimeoutError:
            # Nobody is there to be told. What ends the connection is that its answer stays shorter than it said.
            record = current_record()
            record.code, record.outcome = "write_timeout", "aborted"
            self.let_go()

    async def fail(self, problem: Problem) -> None:
        """Answer with `problem`; an answer that has begun can only be broken off."""
        current_record().code = problem.code
        if self._begun:
            try:
                raise problem
            finally:
                del problem  # its traceback holds this frame
        told = self._edge.errors.response(problem, self._path)
        headers = {"content-type": "application/json"} | problem.headers
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": told.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": told.body, "more_body": False})

    async def say_methods(self) -> None:
        """Answer `OPTIONS *` with the methods of the whole service (RFC 9110, 9.3.7)."""
        await self.send({"type": "http.response.start", "status": 204, "headers": [(b"allow", _METHODS)]})
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    def let_go(self) -> None:
        """Forget the connection."""
        self._send = _send_nowhere


def _check_host(scope: HTTPScope, settings: ServerSettings) -> None:
    """Refuse foreign names, so that no web page reaches the service by a name of its own (DNS rebinding).

    HTTP/1.0 has no Host, and no browser speaks it; a probe tells nothing, and balancers call it by any address.
    """
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if scope["http_version"] in _OLD_HTTP and not any(hosts):
        return
    host = _HOST.fullmatch(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
    if host is None:
        raise Problem("bad_host", "exactly one well-formed Host header is needed")
    allowed = _allowed_hosts(settings)
    name = host[1].lower()
    if allowed and name not in allowed and scope["path"] not in PROBES:
        raise Problem("bad_host", f"this service does not answer to the host {name}; {_remedy(name, settings)}")


def _leave_root(scope: HTTPScope, root: str) -> None:
    """Take the prefix off a path; a proxy may have done it already, so a path without it is one of the service's."""
    scope["root_path"] = root
    path, raw = scope["path"], scope.get("raw_path", b"")
    if path == root or path.startswith(f"{root}/"):
        scope["path"] = path[len(root) :] or "/"
        if raw.startswith(root.encode()):
            scope["raw_path"] = raw[len(root) :] or b"/"


def _take_host(scope: HTTPScope, host: str, settings: ServerSettings) -> None:
    """Go by the host that a trusted proxy tells, for `Origin` has it too. It is held to the rules that Host is."""
    scope["headers"] = [*(pair for pair in scope["headers"] if pair[0] != b"host"), (b"host", host.encode("latin-1"))]
    _check_host(scope, settings)


def _remedy(host: str, settings: ServerSettings) -> str:
    """Say which setting admits a host; the hosts that a configuration lists are not disclosed."""
    if settings.allowed_hosts:
        return f'add "{host}" to allowed_hosts under [server] in the configuration'
    names = ", ".join(f'"{name}"' for name in (*sorted(_allowed_hosts(settings)), host))
    return f"if it should, the configuration needs the line allowed_hosts = [{names}] under [server]"


def _check_single(scope: HTTPScope) -> None:
    """Refuse a header sent twice: proxies and applications disagree on which of the two counts."""
    names = [name for name, _ in scope["headers"] if name in _SINGLE]
    if len(names) != len(set(names)):
        twice = next(name for name in names if names.count(name) > 1)
        raise Problem("duplicate_header", f"the header {twice.decode()} may come once")


def _with_head(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Allow HEAD where GET is allowed, and name the methods in one order."""
    if name != b"allow":
        return name, value
    methods = {method.strip() for method in value.split(b",")}
    return name, b", ".join(sorted(methods | {b"HEAD"} if b"GET" in methods else methods))


async def _send_nowhere(_: Message) -> None:
    return None


@lru_cache(maxsize=8)
def _allowed_hosts(settings: ServerSettings) -> Collection[str]:
    """Say which Host names to answer to; none in particular when bound to every address."""
    if settings.allowed_hosts:
        return frozenset() if "*" in settings.allowed_hosts else frozenset(map(str.lower, settings.allowed_hosts))
    if settings.host in _ANY:
        return frozenset()
    return _LOOPBACK | {f"[{settings.host}]" if ":" in settings.host else settings.host.lower()}
