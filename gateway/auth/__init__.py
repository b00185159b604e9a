"""Authentication and authorisation: API keys and their scopes."""

from gateway.auth.caller import ANONYMOUS, Caller, Scope
from gateway.auth.key_file import KeyFile, KeyFileError
from gateway.auth.keyring import KeyEntry, Keyring, Refusal
from gateway.auth.keys import Key, digest_of, new_key
from gateway.auth.throttle import FailureThrottle

__all__ = [
    "ANONYMOUS",
    "Caller",
    "FailureThrottle",
    "Key",
    "KeyEntry",
    "KeyFile",
    "KeyFileError",
    "Keyring",
    "Refusal",
    "Scope",
    "digest_of",
    "new_key",
]
