"""`reasoning.encrypted_content`: a thought in one opaque word, for clients that keep no other form of it; pure.

It holds the whole thought and a digest of it, so that no store is asked when it comes back, here or at another replica,
and one that was changed on its way is told from one that was not. It is no secret: the thought stands beside it.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from hashlib import blake2b

from gateway.engine import InvalidRequest

_OWN = "gw1."
_DIGEST_BYTES = 16


def seal(thought: str) -> str:
    """Make the word for a thought."""
    data = thought.encode("utf-8", "surrogatepass")
    return _OWN + urlsafe_b64encode(blake2b(data, digest_size=_DIGEST_BYTES).digest() + data).decode()


def unseal(word: str, path: str) -> str | None:
    """Return the thought of a word; `None` for another server's, which cannot be read here.

    Raises `InvalidRequest` for one of ours that was changed.
    """
    if not word.startswith(_OWN):
        return None
    with suppress(ValueError):  # no base64, or no UTF-8
        thought = urlsafe_b64decode(word.removeprefix(_OWN))[_DIGEST_BYTES:].decode("utf-8", "surrogatepass")
        if word == seal(thought):
            return thought
    raise InvalidRequest("this is not as it was given out: send it back unchanged, or leave it out", param=path)
