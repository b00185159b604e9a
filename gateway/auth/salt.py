"""Keeps one caller's cached prefixes from another's, which could be found out by timing."""

import secrets
from hashlib import blake2b


class Salt:
    """Salts the prefixes of callers with a secret that this process alone has."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def of(self, caller: str, salt: str) -> str:
        """Make the salt of a caller; without keys, where it has no name, all callers share.

        A salt that came with the request is mixed in, and never used alone.
        """
        if not caller:
            return salt
        text = f"{len(caller)}:{caller}{salt}"
        return blake2b(text.encode(errors="surrogatepass"), key=self._secret, digest_size=16).hexdigest()
