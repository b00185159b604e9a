"""Authentication and authorisation: the credential of a request, its caller, and the scope that a route needs."""

import math
import re
import time
from collections.abc import Callable
from types import MappingProxyType

from litestar.types import ASGIApp, Receive, Send
from litestar.types import Scope as AnyScope

from gateway.api.http.problems import Problem
from gateway.auth import Caller, FailureThrottle, Refusal, Scope
from gateway.config.snapshot import CurrentConfig
from gateway.telemetry import current_record

_IN_URL = re.compile(rb"llmg_|(?:^|&)(?:api[_-]?key|access_token)=", re.IGNORECASE)
_CHALLENGE = {"www-authenticate": "Bearer"}
_CALLER = "caller"
_SCOPE = "scope"
_PUBLIC = "public"
_CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
# What a route says of itself in its `opt`; one that says nothing needs a key that may ask models.
PUBLIC = MappingProxyType({_PUBLIC: True})
ADMIN = MappingProxyType({_SCOPE: Scope.ADMIN})
METRICS = MappingProxyType({_SCOPE: Scope.METRICS})

_MISSING = "an API key is needed: Authorization: Bearer KEY, or x-api-key: KEY"
_INVALID = "this API key is not valid; it is sent as Authorization: Bearer KEY, or as x-api-key: KEY"
_UNREAD = "the API keys cannot be read at the moment; try again"
_TOO_MANY = "too many wrong API keys came from this address"


class Access:
    """Finds the caller of a request; `count` is told why a credential was refused, for the metrics.

    An address that sent too many wrong keys gets 429 for the next ones; a right key is let through all the same.
    """

    def __init__(
        self,
        current: CurrentConfig,
        count: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._current = current
        self._count = count
        self._tries = FailureThrottle(clock)

    def guard(self, app: ASGIApp) -> ASGIApp:
        """Authorise the request, then call the route. A route without `opt` needs the scope `infer`.

        A middleware of all routes: for each of Litestar's guards the route's handler is copied, at 9 µs a request.
        """

        async def check(scope: AnyScope, receive: Receive, send: Send) -> None:
            opt = scope["route_handler"].opt
            if not opt.get(_PUBLIC):
                keyring = self._current.snapshot.keyring
                if keyring.is_behind():
                    await keyring.refresh()
                self._check(scope, opt.get(_SCOPE, Scope.INFER))
            await app(scope, receive, send)

        return check

    def _check(self, scope: AnyScope, needed: Scope) -> None:
        scope["state"][_CALLER] = caller = self.caller(scope)
        current_record().key = caller.id
        if not caller.may(needed):
            raise Problem("insufficient_scope", f"this key is not for that: it needs the scope {needed.value!r}")

    def caller(self, scope: AnyScope) -> Caller:
        """Find the caller of a request; raise `Problem` for a missing or wrong credential."""
        if _IN_URL.search(scope["query_string"]) or b"llmg_" in scope.get("raw_path", b""):
            raise self._refused("url", Problem("key_in_url", "a key belongs in the header Authorization, not in a URL"))
        credential = self._credential(scope)
        found = self._current.snapshot.keyring.caller(credential)
        if found is Refusal.MISSING:
            raise self._refused(found, Problem("missing_api_key", _MISSING, headers=_CHALLENGE))
        if found is Refusal.UNREAD:
            raise self._refused(found, Problem("keys_unavailable", _UNREAD, headers={"retry-after": "1"}))
        if isinstance(found, Refusal):
            raise self._refused(found, self._wrong(scope))
        return found

    def _credential(self, scope: AnyScope) -> str | None:
        """Read the one credential of a request; two that differ could mean two callers."""
        sent = [header for header in scope["headers"] if header[0] in _CREDENTIALS]
        if not sent:
            return None
        bearer = [value for name, value in sent if name == b"authorization"]
        plain = [value for name, value in sent if name == b"x-api-key"]
        if len(bearer) > 1 or len(plain) > 1:
            raise self._refused("duplicate", Problem("duplicate_header", "Authorization and x-api-key may come once"))
        given = {_bearer(value) for value in bearer} | {value.decode("latin-1").strip() for value in plain}
        if len(given) > 1:
            what = "Authorization and x-api-key name different keys; send one of them"
            raise self._refused("duplicate", Problem("duplicate_header", what))
        return given.pop()

    def _wrong(self, scope: AnyScope) -> Problem:
        address = scope["client"][0] if scope["client"] else ""
        wait = self._tries.fail(address)
        if not wait:
            return Problem("invalid_api_key", _INVALID, headers=_CHALLENGE)
        seconds = str(math.ceil(wait))
        return Problem(
            "rate_limit_exceeded", f"{_TOO_MANY}; try again in {seconds} s", headers={"retry-after": seconds}
        )

    def _refused(self, reason: str, problem: Problem) -> Problem:
        self._count(reason)
        return problem


def caller_of(scope: AnyScope) -> Caller:
    """Return the caller of an authorised request."""
    caller = scope["state"][_CALLER]
    if not isinstance(caller, Caller):
        raise TypeError("no guard has let this request through")
    return caller


def _bearer(value: bytes) -> str:
    """Take the credential out of `Bearer …`; any other scheme has none."""
    scheme, _, credential = value.decode("latin-1").strip().partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""
