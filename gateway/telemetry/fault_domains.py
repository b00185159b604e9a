"""Where to act on an error: every code has one of five domains, in one table.

    caller      the request, or the client that left: nothing to do here
    policy      a rule of the configuration about this caller: its limits, its rights, the hosts that are answered to
    engine      an engine of ours: it is not up, it failed, it ended
    upstream    a server behind an engine
    service     the gateway itself: its room, its time, its stores, a bug

Objectives count `engine`, `upstream` and `service`: a caller can do nothing about those.
"""

from enum import StrEnum


class FaultDomain(StrEnum):
    """Where a failed request failed; a label's value."""

    CALLER = "caller"
    POLICY = "policy"
    ENGINE = "engine"
    UPSTREAM = "upstream"
    SERVICE = "service"


_CODES = {
    FaultDomain.CALLER: (
        "body_timeout",
        "cancelled",
        "client_closed_request",
        "context_length_exceeded",
        "duplicate_header",
        "file_in_use",
        "invalid_api_key",
        "invalid_json",
        "invalid_url",
        "invalid_value",
        "key_in_url",
        "method_not_allowed",
        "missing_api_key",
        "model_not_found",
        "not_found",
        "not_repeatable",
        "request_too_large",
        "unsupported_media_type",
        "unsupported_parameter",
        "write_timeout",
    ),
    FaultDomain.POLICY: (
        "bad_host",
        "insufficient_scope",
        "origin_not_allowed",
        "quota_exceeded",
        "rate_limit_exceeded",
        "tokens_exceeded",
        "too_many_batches",
        "too_many_concurrent",
    ),
    FaultDomain.ENGINE: (
        "engine_error",
        "engine_restarted",
        "engine_unavailable",
        "load_failed",
        "request_quarantined",
    ),
    FaultDomain.UPSTREAM: ("upstream_unavailable",),
    FaultDomain.SERVICE: (
        "deadline_exceeded",
        "draining",
        "internal_error",
        "keys_unavailable",
        "memory_pressure",
        "overloaded",
        "queue_timeout",
        "store_unavailable",
    ),
}
DOMAINS = {code: domain for domain, codes in _CODES.items() for code in codes}


def domain_of(code: str, status: int = 0) -> FaultDomain:
    """Find the domain of an error; without a code, by the HTTP status. A code that a plugin made up is its engine's."""
    if not code:
        return FaultDomain.CALLER if status < 500 else FaultDomain.SERVICE  # noqa: PLR2004 - as HTTP divides them
    return DOMAINS.get(code, FaultDomain.ENGINE)
