"""What the head of a request says, of its time as a rule, whatever its dialect."""

import math
from collections.abc import Mapping

from litestar.types import Scope

from gateway.engine import InvalidRequest
from gateway.flow.deadline import Timeouts

_TIMEOUT = "X-Request-Timeout"


def read_head(scope: Scope) -> Mapping[str, str]:
    """Return the headers of a request by their names in lower case; lines of one name are one list (RFC 9110)."""
    head: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        head[key] = f"{head[key]}, {text}" if key in head else text
    return head


def read_timeouts(headers: Mapping[str, str], times: Timeouts) -> Timeouts:
    """Return `times`, which the body gave, with the header in place of its total; raise `InvalidRequest`."""
    text = headers.get(_TIMEOUT.lower())
    if text is None:
        return times
    return Timeouts(total=_seconds(text), queue=times.queue, first_token=times.first_token)


def wants_updates(headers: Mapping[str, str]) -> bool:
    """Tell whether the client asked to be told its position in the queue (`Prefer: queue-updates`, RFC 7240)."""
    preferred = headers.get("prefer", "").split(",")
    return any(item.partition(";")[0].strip().lower() == "queue-updates" for item in preferred)


def _seconds(text: str) -> float:
    try:
        seconds = math.nan if "_" in text else float(text)  # Python reads 1_0 as 10
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidRequest("the header X-Request-Timeout is the seconds that all may take, above 0", param=_TIMEOUT)
    return seconds
