"""Which replica should answer: the one that read the beginning of the prompt before, unless it has too much to do."""

import hashlib
import itertools
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from gateway.engine import Prompt, beginning

# The favourite may have so many times the requests of the replica with the fewest.
_FULLER = 2


def affinity(prompt: Prompt, salt: str) -> bytes:
    """Return a key that is equal for prompts of one caller that begin alike; `salt` keeps callers apart."""
    return _digest(salt.encode(errors="surrogatepass"), beginning(prompt))


def pick(key: bytes, loads: Mapping[str, int], places: int) -> str:
    """Return the replica that should answer, by its name in `loads`, which says how many requests each has.

    It is the favourite of the key (rendezvous hashing: a replica that comes or goes moves its own keys only), but the
    one with the fewest requests where the favourite is full, or has more than twice as many.
    """
    favourite = max(loads, key=lambda name: _digest(key, name.encode()))
    least = min(loads, key=lambda name: (loads[name], name != favourite))
    is_full = bool(places) and loads[favourite] >= places
    is_busy = loads[favourite] > _FULLER * (loads[least] + 1)
    return least if is_full or is_busy else favourite


class AnswerLedger:
    """Which replica each answer of this process was given to.

    The engine begins and ends an answer on its event loop, and the router gives it to a replica on a thread of Ray's.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._given: dict[int, str] = {}
        self._lock = threading.Lock()

    @contextmanager
    def answer(self) -> Iterator[int]:
        """Count an answer while the block runs, and yield its number."""
        number = next(self._numbers)
        with self._lock:
            self._given[number] = ""
        try:
            yield number
        finally:
            with self._lock:
                del self._given[number]

    def give(self, number: int, replica: str) -> None:
        """Count an answer for a replica; a number that is none, or no more, counts for none."""
        with self._lock:
            if number in self._given:
                self._given[number] = replica

    def loads(self, replicas: Iterable[str]) -> dict[str, int]:
        """Count the answers of each of the replicas."""
        with self._lock:
            given = Counter(self._given.values())
        return {replica: given[replica] for replica in replicas}


LEDGER = AnswerLedger()


def _digest(*pieces: bytes) -> bytes:
    return hashlib.blake2b(b"\0".join(pieces), digest_size=16).digest()
