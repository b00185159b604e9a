"""A token bucket (Turner, IEEE Communications 1986): reserve an upper bound, settle the usage, compute waits exactly.

It counts the tokens spent, which are paid back at `rate`, and not those left: so its capacity may change.
"""

from collections.abc import Callable

# Of the capacity, and of a second: rounding must not make a caller that waited exactly long enough wait again.
_SLACK = 1e-12
_SLACK_SECONDS = 1e-8


class TokenBucket:
    """Holds `capacity` tokens and gets `rate` of them back a second; `clock` is in seconds."""

    def __init__(self, capacity: float, rate: float, clock: Callable[[], float]) -> None:
        self.capacity = capacity
        self.rate = rate
        self._clock = clock
        self._spent = 0.0
        self._at = clock()

    @property
    def level(self) -> float:
        """The tokens left; below zero when more was used than reserved, or the capacity was lowered."""
        self._pay_back()
        return self.capacity - self._spent

    def reserve(self, amount: float) -> float | None:
        """Take `amount`, or all of a full bucket that is smaller; return what was taken, `None` where it is not there.

        So a request larger than the bucket can run, and pays for the rest when it is settled.
        """
        wanted = min(amount, self.capacity)
        if self.level + self._slack < wanted:
            return None
        self._spent += wanted
        return wanted

    def settle(self, reserved: float, used: float) -> None:
        """Give back what was reserved and not used, or take what was used beyond it."""
        self._pay_back()
        self._spent = max(self._spent + used - reserved, 0.0)

    def wait(self, amount: float) -> float:
        """Return the seconds until `reserve(amount)` will succeed if nothing else is reserved meanwhile."""
        missing = min(amount, self.capacity) - self.level
        return missing / self.rate if missing > self._slack else 0.0

    def until_full(self) -> float:
        """Return the seconds until the bucket is full."""
        return self.wait(self.capacity)

    @property
    def _slack(self) -> float:
        return self.capacity * _SLACK + self.rate * _SLACK_SECONDS

    def _pay_back(self) -> None:
        now = self._clock()
        self._spent = max(self._spent - (now - self._at) * self.rate, 0.0)
        self._at = now
