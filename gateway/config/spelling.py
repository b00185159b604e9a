"""Suggestions for misspelt settings and variables."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping

_CLOSE = 0.85
# OpenTelemetry's other standard names differ from ours by one word of many.
_CLOSE_STANDARD = 0.95
_STANDARD = "OTEL_"
_SHORTEST_WORD = 5
_LINKED = "_SERVICE_HOST"


def meant(name: str, known: Iterable[str], cutoff: float = _CLOSE) -> str | None:
    """Return the known name closest to `name`, ignoring case and separators; `None` if none is close."""
    plain = {_bare(other): other for other in known}
    wanted = _bare(name)
    if wanted in plain:
        return plain[wanted]
    for bare, other in plain.items():
        if sorted(bare) == sorted(wanted):  # two letters changed places
            return other
    found = difflib.get_close_matches(wanted, plain, n=1, cutoff=cutoff)
    return plain[found[0]] if found else None


def near_misses(variables: Mapping[str, str], plain: Collection[str], prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the variables that are not read but resemble one that is, with the name that was probably meant.

    If the right name is set too, the other one belongs to another program.
    """
    for name in variables:
        if name in plain or name.startswith(prefix.rstrip("_")) or _is_linked(name, variables):
            continue
        if (right := _plain_name(name, plain) or _long_name(name, prefix)) and right not in variables:
            yield name, right


def _plain_name(name: str, plain: Collection[str]) -> str | None:
    """Return the plain name that was meant. `MODEL` means `MODEL_NAME`; `UV_LOG_LEVEL` is another program's."""
    if any(name.endswith(f"_{other}") for other in plain):
        return None
    if name.startswith(_STANDARD):
        return meant(name, [other for other in plain if other.startswith(_STANDARD)], _CLOSE_STANDARD)
    own = [other for other in plain if not other.startswith(_STANDARD)]
    shorter = (other for other in own if len(name) >= _SHORTEST_WORD and other.startswith(f"{name.upper()}_"))
    return next(shorter, None) or meant(name, own)


def _long_name(name: str, prefix: str) -> str | None:
    """Return the long name that was meant by `LLMGATEWAY__SERVER__PORT` or `llm_gateway__server__port`."""
    head, separator, path = name.partition("__")
    return f"{prefix}{path.upper()}" if separator and meant(head, [prefix]) else None


def _is_linked(name: str, variables: Mapping[str, str]) -> bool:
    """Tell whether Kubernetes set this variable for a service."""
    return any(other.endswith(_LINKED) and name.startswith(other.removesuffix(_LINKED)) for other in variables)


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()
