"""Names that are nearly right: what was meant by a setting, a flag or a variable that does not exist."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping

_CLOSE = 0.85
# Standard names of OpenTelemetry that are no settings of ours differ from ours in one word of many.
_CLOSE_STANDARD = 0.95
_STANDARD = "OTEL_"
_SHORTEST_WORD = 5
_LINKED = "_SERVICE_HOST"


def meant(name: str, known: Iterable[str], cutoff: float = _CLOSE) -> str | None:
    """Find the known name that `name` was probably meant to be, in any case and with any separators."""
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
    """Yield the variables that nothing reads, each with the name that it was probably meant to be.

    Where the right name is set too, the other one belongs to another program.
    """
    for name in variables:
        if name in plain or name.startswith(prefix.rstrip("_")) or _is_linked(name, variables):
            continue
        if (right := _plain_name(name, plain) or _long_name(name, prefix)) and right not in variables:
            yield name, right


def _plain_name(name: str, plain: Collection[str]) -> str | None:
    """Find a plain name; `MODEL` is `MODEL_NAME` without its last word, and `UV_LOG_LEVEL` is somebody else's."""
    if any(name.endswith(f"_{other}") for other in plain):
        return None
    if name.startswith(_STANDARD):
        return meant(name, [other for other in plain if other.startswith(_STANDARD)], _CLOSE_STANDARD)
    own = [other for other in plain if not other.startswith(_STANDARD)]
    shorter = (other for other in own if len(name) >= _SHORTEST_WORD and other.startswith(f"{name.upper()}_"))
    return next(shorter, None) or meant(name, own)


def _long_name(name: str, prefix: str) -> str | None:
    """Find the long name whose prefix is nearly right: `LLMGATEWAY__SERVER__PORT`, `llm_gateway__server__port`."""
    head, separator, path = name.partition("__")
    return f"{prefix}{path.upper()}" if separator and meant(head, [prefix]) else None


def _is_linked(name: str, variables: Mapping[str, str]) -> bool:
    """Say whether Kubernetes tells of a service in this variable."""
    return any(other.endswith(_LINKED) and name.startswith(other.removesuffix(_LINKED)) for other in variables)


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()
