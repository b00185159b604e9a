"""Estimates of waiting times, from moving averages over the last dozens of requests."""

_WEIGHT = 1 / 16


class WaitEstimator:
    """Averages of the time that a place is held, and of the time from a place to the first token."""

    def __init__(self) -> None:
        self.service_seconds: float | None = None
        self.first_seconds: float | None = None
        self._cost: float | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens of cost that one place works off in a second; `None` before anything was measured."""
        if self.service_seconds is None or self._cost is None:
            return None
        return self._cost / max(self.service_seconds, 1e-9)

    def start(self, seconds: float) -> None:
        """Take the time from getting a place to the first token."""
        self.first_seconds = _moved(self.first_seconds, seconds)

    def finish(self, seconds: float, cost: int) -> None:
        """Take the time that a place was held, and the cost in tokens that was reserved."""
        self.service_seconds = _moved(self.service_seconds, seconds)
        self._cost = _moved(self._cost, cost)

    def wait(self, tokens_ahead: int, running: int) -> float | None:
        """Predict the queueing delay in seconds for a request with `tokens_ahead` queued before it.

        The `running` places work off the tokens together; behind the last of them, one more place has to come free.
        """
        rate = self.tokens_per_second
        if rate is None or self.service_seconds is None or not running:
            return None
        return (tokens_ahead / rate + self.service_seconds) / running


def _moved(average: float | None, value: float) -> float:
    return value if average is None else average + (value - average) * _WEIGHT
