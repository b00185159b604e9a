"""API keys: made of 190 random bits, and kept as their SHA-256 only.

A fast hash suffices because they are random: 2**190 texts cannot be tried, however fast.
"""

import hashlib
import secrets
import string
from typing import Annotated

from msgspec import Meta, Struct

from gateway.auth.caller import Caller, Scope
from gateway.limits.quota import Quota

PREFIX = "llmg_"
_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 32
_ID_BYTES = 5

KeyName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[\w.@ -]+$")]


class Key(Struct, frozen=True, kw_only=True):
    """A key's record: its hash, never the key itself. Times are in seconds since 1970."""

    id: str
    name: KeyName
    digest: str
    scopes: frozenset[Scope] = frozenset({Scope.INFER})
    models: frozenset[str] | None = None
    quota: Quota = Quota()
    priority: int = 0
    created: float = 0.0
    expires: float | None = None
    revoked: float | None = None

    @property
    def caller(self) -> Caller:
        """The caller that uses this key."""
        return Caller(
            id=self.id,
            name=self.name,
            scopes=self.scopes,
            models=self.models,
            quota=self.quota,
            priority=self.priority,
        )


def new_key() -> tuple[str, str, str]:
    """Make a key; return its id, the key itself, which is not kept, and its digest."""
    text = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
    return secrets.token_hex(_ID_BYTES), text, digest_of(text)


def digest_of(text: str) -> str:
    """Hash a key as it is kept: SHA-256, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()
