"""Rate limit on failed authentication, per client address."""

from collections import OrderedDict
from collections.abc import Callable

from gateway.flow.bucket import TokenBucket

_A_MINUTE = 10
_ADDRESSES = 4_096


class FailureThrottle:
    """Counts wrong keys by the address they came from; the addresses longest silent are forgotten."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def fail(self, address: str) -> float:
        """Count a wrong key; return 0, or the seconds to wait where there were too many."""
        bucket = self._buckets.pop(address, None) or TokenBucket(_A_MINUTE, _A_MINUTE / 60, self._clock)
        self._buckets[address] = bucket
        if len(self._buckets) > _ADDRESSES:
            self._buckets.popitem(last=False)
        return bucket.wait(1) if bucket.reserve(1) is None else 0.0
