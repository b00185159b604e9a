"""Cross-origin requests: which web pages may call the service, and what they may read of its answers."""

from litestar.config.cors import CORSConfig

from gateway.config import CorsSettings
from gateway.limits import RATE_HEADERS

_EXPOSED = (
    "retry-after",
    "retry-after-ms",
    "request-id",
    "x-cache",
    "x-failed-choices",
    "x-finish-detail",
    "x-ignored-params",
    "x-request-id",
    *RATE_HEADERS,
)


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
