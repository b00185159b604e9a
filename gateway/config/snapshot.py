"""The configuration in force: one immutable snapshot, replaced atomically on reload."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.auth import KeyFile, KeyFileError, Keyring
from gateway.config.schema import AuthSettings, Config

# Granian, Litestar, the telemetry and the connections to a store were built with these.
_FIXED = (
    "server.host",
    "server.port",
    "server.workers",
    "server.idle_seconds",
    "server.root_path",
    "server.docs",
    "server.playground",
    "cors",
    "cache.max_bytes",
    "cache.ttl_seconds",
    "cache.store_url",
    "cache.store_seconds",
    "store.file",
    "store.max_bytes",
    "store.ttl_seconds",
    "files.folder",
    "batches.at_once",
    "telemetry",
    "limits.store_url",
    "limits.store_seconds",
    "limits.when_down",
    "limits.replicas",
)


class Snapshot(Struct, frozen=True, eq=False):
    """A configuration with the keyring made from it."""

    config: Config
    keyring: Keyring

    @classmethod
    def of(cls, config: Config, *, may_wait: bool = False) -> "Snapshot":
        """Make the snapshot of a configuration; raise `KeyFileError` if its keys cannot be read, or wait for them."""
        return cls(config, _keyring(config.auth, may_wait=may_wait))


class CurrentConfig:
    """The configuration in force: one immutable snapshot, replaced as a whole on reload.

    Read `snapshot` once if two parts of it must be consistent.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.config = snapshot.config

    def swap(self, snapshot: Snapshot) -> list[str]:
        """Replace the snapshot; return the changed settings that only take effect after a restart."""
        fixed = list(_differing(self.config, snapshot.config))
        self.snapshot, self.config = snapshot, snapshot.config
        return fixed


def _keyring(auth: AuthSettings, *, may_wait: bool) -> Keyring:
    keyring = Keyring(auth.keys, KeyFile(Path(auth.file)) if auth.file else None, may_wait=may_wait)
    if auth.file and keyring.is_open and not auth.insecure_no_auth:
        # There was a key when the configuration was read: a later worker must not accept every caller.
        raise KeyFileError(f"there is no key in {auth.file}")
    return keyring


def _differing(old: Config, new: Config) -> Iterator[str]:
    before, after = msgspec.to_builtins(old), msgspec.to_builtins(new)
    for path in _FIXED:
        section, _, key = path.partition(".")
        then, now = before[section], after[section]
        if (then.get(key) != now.get(key)) if key else (then != now):
            yield path
