"""Cross-origin requests: which web pages may call the service, and what they may read of its answers."""

from functools import lru_cache

from litestar.config.cors import CORSConfig
from litestar.constants import DEFAULT_ALLOWED_CORS_HEADERS
from litestar.enums import HttpMethod
from litestar.types import HTTPScope

from gateway.api.http.problems import Problem
from gateway.config import CorsSettings
from gateway.limits import RATE_HEADERS

_EXPOSED = (
    "retry-after",
    "retry-after-ms",
    "request-id",
    "x-cache",
    "x-engine",
    "x-failed-choices",
    "x-fallback",
    "x-finish-detail",
    "x-ignored-params",
    "x-request-id",
    "x-structured",
    *RATE_HEADERS,
)


_ALWAYS = frozenset(map(str.lower, DEFAULT_ALLOWED_CORS_HEADERS))
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_STRANGER = "web pages of that origin may not call this; see cors.origins"


@lru_cache(maxsize=8)
def to_cors(settings: CorsSettings) -> CORSConfig | None:
    """Make Litestar's configuration; `None` where no other origin may call."""
    if not settings.origins:
        return None
    return CORSConfig(
        allow_origins=list(settings.origins),
        allow_methods=list(settings.methods),  # type: ignore[arg-type]  # checked by the browser, not by a list of ours
        allow_headers=list(settings.headers),
        allow_credentials=settings.credentials,
        max_age=settings.max_age,
        expose_headers=list(_EXPOSED),
    )


def check_origin(scope: HTTPScope, settings: CorsSettings) -> None:
    """Raise `Problem` for what a page may not make its visitor's browser do; also for a request without a body.

    A preflight that fails is refused here, so that its error has the shape of all others.
    """
    headers = dict(scope["headers"])
    origin = headers.get(b"origin", b"").decode("latin-1")
    if not origin:
        return
    cors = to_cors(settings)
    if scope["method"] == HttpMethod.OPTIONS and cors is not None:
        _check_preflight(headers, cors)
    if scope["method"] in _SAFE or (cors is not None and cors.is_origin_allowed(origin)):
        return
    if origin.partition("://")[2] != headers.get(b"host", b"").decode("latin-1"):
        raise Problem("origin_not_allowed", _STRANGER)


def _check_preflight(headers: dict[bytes, bytes], cors: CORSConfig) -> None:
    """Hold a preflight to the configuration (Fetch standard, CORS protocol)."""
    if not cors.is_origin_allowed(headers[b"origin"].decode("latin-1")):
        raise Problem("origin_not_allowed", _STRANGER)
    method = headers.get(b"access-control-request-method", b"").decode("latin-1")
    if method and not cors.is_allow_all_methods and method not in cors.allow_methods:
        raise Problem("origin_not_allowed", f"web pages may not send {method} here; see cors.methods")
    asked = headers.get(b"access-control-request-headers", b"").decode("latin-1").lower().split(",")
    for name in filter(None, map(str.strip, asked)):
        if not cors.is_allow_all_headers and name not in _ALWAYS and name not in cors.allow_headers:
            raise Problem("origin_not_allowed", f"web pages may not send the header {name} here; see cors.headers")
