"""Secrets that a plugin may ask for by name: it does not look into the environment itself.

The process that reads the configuration lends a way to look them up. A process of an engine's own has none, and no
variable that could hold one: there a file is the way.
"""

from collections.abc import Callable

from gateway.engine.errors import LoadFailed

_lookups: list[Callable[[str], str | None]] = []


def lend_secrets(lookup: Callable[[str], str | None]) -> None:
    """Have `secret` ask `lookup`, in the place of any before it."""
    _lookups[:] = [lookup]


def secret(name: str) -> str:
    """Return the value of an environment variable; raise `LoadFailed`, naming it, where there is none."""
    for lookup in _lookups:
        if value := lookup(name):
            return value
    raise LoadFailed(f"the environment has no {name} here; an engine in a process of its own inherits none: use a file")
