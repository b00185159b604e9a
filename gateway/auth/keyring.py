"""All API keys, of the file and of the configuration, by their hashes."""

import asyncio
import hmac
import re
import time
from collections.abc import Callable, Iterable, Mapping
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
# A reading takes milliseconds, unless the disk does not answer.
_PATIENCE_SECONDS = 1.0
# For `keys create`, which locks the file for milliseconds; another program's lock is waited for once, and so long.
_LOCK_SECONDS = 0.1
# A reading that was under way when a request came may have begun before the last change; the next one has not.
_READINGS = 2


class Refusal(StrEnum):
    """The reason why a credential was refused: for metrics only, every client gets the same answer."""

    MISSING = "missing"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNREAD = "unread"


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

    A file that cannot be read leaves the keys as they were; `trouble` is the reason, and is logged. One that cannot be
    read at the beginning raises `KeyFileError`, unless it `may_wait`: then its callers are told to come again.
    """

    def __init__(
        self,
        configured: Mapping[str, KeyEntry] | None = None,
        file: KeyFile | None = None,
        clock: Callable[[], float] = time.time,
        *,
        may_wait: bool = False,
    ) -> None:
        self.trouble = ""
        self._clock = clock
        self._file = file
        self._configured = {entry.sha256: _key(name, entry) for name, entry in (configured or {}).items()}
        self._keys = self._configured
        self._stamp: Stamp | None = None
        self._reading: asyncio.Task[None] | None = None
        self._is_closed = bool(self._configured)
        self._is_unread = False
        if file is not None:
            self._begin(file, may_wait=may_wait)

    @property
    def is_open(self) -> bool:
        """Whether no key is needed: there is none, and never was one while this ran."""
        return not self._is_closed

    def is_behind(self) -> bool:
        """Tell whether the file has changed since it was read; it is looked at, which waits for no other program."""
        if self._file is None:
            return False
        try:
            is_behind = self._file.stamp() != self._stamp or self._is_unread
        except KeyFileError as error:
            self._note(str(error))
            return False
        if not is_behind and self.trouble:
            self._recover()
        return is_behind

    async def refresh(self) -> None:
        """Read the file again where it has changed, beside the event loop.

        Where another program has it locked, or the disk does not answer, the last known keys are in force, and nothing
        waits: neither for that program nor for a reading that is late.
        """
        if self._file is None:
            return
        for _ in range(_READINGS):
            if not self.is_behind():
                return
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read(self._file))
            elif self.trouble:
                return
            done, _ = await asyncio.wait({self._reading}, timeout=_PATIENCE_SECONDS)
            if not done:
                self._note(f"{self._file.path}: it could not be read within {_PATIENCE_SECONDS:g} s")
            if self.trouble:
                return

    def caller(self, credential: str | None) -> Caller | Refusal:
        """Find whose `credential` is; without a key at all every caller is `ANONYMOUS`.

        It takes the same time for every credential.
        """
        if not self._is_closed:
            return ANONYMOUS
        if credential is None:
            return Refusal.MISSING
        is_well_formed = _CREDENTIAL.fullmatch(credential) is not None
        digest = digest_of(credential if is_well_formed else "")
        key = self._keys.get(digest)
        is_right = hmac.compare_digest(digest, key.digest if key else _NOBODY)
        if key is None or not is_right:
            unknown = Refusal.UNREAD if self._is_unread else Refusal.UNKNOWN
            return unknown if is_well_formed else Refusal.MALFORMED
        return self._state(key)

    def caller_of(self, identity: str) -> Caller | Refusal:
        """Find the caller whose key has an id, as `caller` does, for work that was asked for before."""
        if not self._is_closed:
            return ANONYMOUS if identity == ANONYMOUS.id else Refusal.UNKNOWN
        key = next((key for key in self._keys.values() if key.id == identity), None)
        if key is None:
            return Refusal.UNREAD if self._is_unread else Refusal.UNKNOWN
        return self._state(key)

    def _state(self, key: Key) -> Caller | Refusal:
        if key.revoked is not None:
            return Refusal.REVOKED
        is_over = key.expires is not None and key.expires <= self._clock()
        return Refusal.EXPIRED if is_over else key.caller

    def _begin(self, file: KeyFile, *, may_wait: bool) -> None:
        try:
            self._stamp = file.stamp()
            self._take(file.read(_LOCK_SECONDS) if may_wait else file.read())
        except KeyFileError as error:
            if not may_wait:
                raise
            self._is_closed = self._is_unread = True
            self._note(str(error))

    async def _read(self, file: KeyFile) -> None:
        """Read the file once; the keys and the stamp change together."""
        try:
            stamp = file.stamp()
            keys = await asyncio.to_thread(file.read, 0.0 if self.trouble else _LOCK_SECONDS)
        except KeyFileError as error:
            self._note(str(error))
        else:
            self._stamp = stamp
            self._take(keys)

    def _take(self, keys: Iterable[Key]) -> None:
        """Put the file's keys into force; a key that the configuration has too is as it is there."""
        self._keys = {key.digest: key for key in keys} | self._configured
        self._is_closed = self._is_closed or bool(self._keys)
        self._is_unread = False
        if self.trouble:
            self._recover()

    def _note(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            logger.bind(event="keys_unreadable").error("the keys stay as they were: {}", trouble)

    def _recover(self) -> None:
        self.trouble = ""
        logger.bind(event="keys_readable").info("the file of the keys is readable again")


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
