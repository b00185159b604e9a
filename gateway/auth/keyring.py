"""All API keys, of the file and of the configuration, by their hashes."""

import hmac
import re
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated

from loguru import logger
from msgspec import Meta, Struct

from gateway.auth.caller import ANONYMOUS, Caller, Scope
from gateway.auth.key_file import KeyFile, KeyFileError, Stamp
from gateway.auth.keys import Key, digest_of
from gateway.limits.quota import Quota

_CREDENTIAL = re.compile(r"[A-Za-z0-9._~+/=-]{8,256}", re.ASCII)
_NOBODY = "0" * 64


class Refusal(StrEnum):
    """The reason why a credential was refused: for metrics only, every client gets the same answer."""

    MISSING = "missing"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"


class KeyEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key in the configuration, under its name: `sha256` is the hash of the key, in hex."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    scopes: frozenset[Scope] = frozenset({Scope.INFER})
    models: frozenset[str] | None = None
    quota: Quota = Quota()
    priority: int = 0
    expires: float | None = None


class Keyring:
    """The keys of the configuration and of the file, which is read again whenever it has changed.

    A file that becomes unreadable leaves the keys as they were, and the reason is logged.
    """

    def __init__(
        self,
        configured: Mapping[str, KeyEntry] | None = None,
        file: KeyFile | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._file = file
        self._configured = {entry.sha256: _key(name, entry) for name, entry in (configured or {}).items()}
        self._keys = self._configured
        self._stamp: Stamp | None = None
        self._trouble = ""
        self._is_closed = bool(self._configured)
        if file is not None:
            self._stamp = file.stamp()
            self._read(file)

    @property
    def is_open(self) -> bool:
        """Whether no key is needed: there is none, and never was one while this ran."""
        self._refresh()
        return not self._is_closed

    def caller(self, credential: str | None) -> Caller | Refusal:
        """Find whose `credential` is; without a key at all every caller is `ANONYMOUS`.

        It takes the same time for every credential. The file is looked at once.
        """
        self._refresh()
        if not self._is_closed:
            return ANONYMOUS
        if credential is None:
            return Refusal.MISSING
        is_well_formed = _CREDENTIAL.fullmatch(credential) is not None
        digest = digest_of(credential if is_well_formed else "")
        key = self._keys.get(digest)
        is_right = hmac.compare_digest(digest, key.digest if key else _NOBODY)
        if key is None or not is_right:
            return Refusal.UNKNOWN if is_well_formed else Refusal.MALFORMED
        if key.revoked is not None:
            return Refusal.REVOKED
        if key.expires is not None and key.expires <= self._clock():
            return Refusal.EXPIRED
        return key.caller

    def _refresh(self) -> None:
        if self._file is None:
            return
        try:
            stamp = self._file.stamp()
            if stamp != self._stamp:
                self._read(self._file)
                self._stamp = stamp
        except KeyFileError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                logger.bind(event="keys_unreadable").error("the keys stay as they were: {}", error)

    def _read(self, file: KeyFile) -> None:
        """Read the file's keys; a key that the configuration has too is as it is there."""
        self._keys = {key.digest: key for key in file.read()} | self._configured
        self._is_closed = self._is_closed or bool(self._keys)
        self._trouble = ""


def _key(name: str, entry: KeyEntry) -> Key:
    return Key(
        id=name,
        name=name,
        digest=entry.sha256,
        scopes=entry.scopes,
        models=entry.models,
        quota=entry.quota,
        priority=entry.priority,
        expires=entry.expires,
    )
