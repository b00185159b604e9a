"""The engines behind a name of `[routes]`: in which order they are tried, and when the next one is."""

import math
import random
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from gateway.config import RouteSettings
from gateway.engine import (
    ContextTooLong,
    Draining,
    EngineError,
    EngineRestarted,
    GenerateRequest,
    ModelCard,
    Overloaded,
    Unavailable,
    Unsupported,
    UpstreamFailed,
    beginning,
    negotiate,
)
from gateway.hosting.hosted import HostedEngine

# How much fuller than the emptiest the favourite of a prompt may be.
_FULLER = 2.0
# Retries for each request, and how many may come at once.
_SHARE = 0.1
_BURST = 10.0


class Load(NamedTuple):
    """How busy a model is: the wait that is predicted, in seconds, and its requests for each of its places."""

    wait: float
    share: float


class Target(NamedTuple):
    """The engine that a request goes to, and the card of the model there; where it came by a route, the others too."""

    hosted: HostedEngine
    card: ModelCard
    route: "Route | None" = None


class Route(NamedTuple):
    """The targets of a route that are up, in the order in which they are tried; `skipped` is why the first is not.

    `wished` is the first one where it has to be loaded: others answer meanwhile.
    """

    settings: RouteSettings
    targets: tuple[Target, ...]
    skipped: str = ""
    wished: HostedEngine | None = None

    def choose(
        self,
        request: GenerateRequest,
        load: Callable[[ModelCard], Load],
        is_free: Callable[[ModelCard], bool] = lambda _: True,
    ) -> Target:
        """Choose the target of a request, and leave out those that cannot do what it asks, unless none can.

        Those that would have it wait come last: they are not loaded, or their process is being replaced, or they are
        left alone (`is_free`).
        """
        able = tuple(target for target in self.targets if _can(request, target.card)) or self.targets
        up = tuple(target for target in able if target.hosted.is_up and is_free(target.card))
        rank, skipped, wished = _STRATEGIES[self.settings.strategy], self.skipped, self.wished
        ranked = rank(self.settings, up, request, load) if len(up) > 1 else up
        if 0 < len(up) < len(able):
            ranked = [*ranked, *(target for target in able if target not in up)]
            if (first := rank(self.settings, able, request, load)[0]) not in up:
                skipped = skipped or Unavailable.code
                if wished is None and self.settings.strategy in _WILLED:
                    wished = first.hosted
        ranked = ranked or able
        if not self.settings.fallback:
            ranked = ranked[:1]
        return ranked[0]._replace(route=self._replace(targets=tuple(ranked), skipped=skipped, wished=wished))


class TooSlow(UpstreamFailed):
    """The engine did not begin its answer in the time that the route gives it; a retry is paid for already."""


class RetryBudget:
    """Lets at most one more try come on ten requests, so that failing engines are not buried under retries."""

    def __init__(self) -> None:
        self._left = _BURST

    def earn(self) -> None:
        """Count a request."""
        self._left = min(self._left + _SHARE, _BURST)

    def spend(self) -> bool:
        """Take one retry; tell whether there was one."""
        has_one = self._left >= 1
        self._left -= has_one
        return has_one


def falls_back(error: EngineError, failed: ModelCard, other: ModelCard, budget: RetryBudget) -> bool:
    """Tell whether another target may do better, before the first event of an answer.

    A target that turned a request away did no work, so asking the next is free; one that failed may have.
    """
    if isinstance(error, ContextTooLong):
        return other.context_window > failed.context_window
    if isinstance(error, TooSlow):
        return True
    if may_have_worked(error):
        return budget.spend()
    return isinstance(error, Overloaded | Unavailable) and not isinstance(error, Draining)


def may_have_worked(error: EngineError) -> bool:
    """Tell whether an engine may have worked for a request that it failed: then the next try is one more load."""
    return isinstance(error, EngineRestarted | UpstreamFailed) or type(error) is EngineError


def _can(request: GenerateRequest, card: ModelCard) -> bool:
    try:
        negotiate(request, card)
    except Unsupported:
        return False
    return True


Targets = Sequence[Target]
Measure = Callable[[ModelCard], Load]


def _ordered(_: RouteSettings, targets: Targets, __: GenerateRequest, ___: Measure) -> Targets:
    return targets


def _least_loaded(_: RouteSettings, targets: Targets, __: GenerateRequest, load: Measure) -> Targets:
    return sorted(targets, key=lambda target: load(target.card))


def _weighted(settings: RouteSettings, targets: Targets, _: GenerateRequest, __: Measure) -> Targets:
    """Draw without replacement, each by its weight (Efraimidis and Spirakis, 2006)."""
    weights = settings.weights
    draw = random.random
    return sorted(targets, key=lambda target: math.log(1 - draw()) / weights.get(target.hosted.name, 1.0), reverse=True)


def _by_prefix(_: RouteSettings, targets: Targets, request: GenerateRequest, load: Measure) -> Targets:
    """Have prompts that begin alike meet the same engine, whose cache has their beginning (rendezvous hashing).

    A favourite without a free place that is twice as full as the emptiest comes last: then a cache would cost more time
    than it saves.
    """
    prefix = blake2b(beginning(request.prompt)).digest()  # once, whatever its length and however many engines
    ranked = sorted(targets, key=lambda target: _score(target.hosted.name, prefix))
    least = min(load(target.card).share for target in targets)
    full = [target for target in ranked if load(target.card).share >= max(_FULLER * least, 1.0)]
    return [target for target in ranked if target not in full] + sorted(full, key=lambda target: load(target.card))


def _score(name: str, prefix: bytes) -> bytes:
    return blake2b(prefix, digest_size=8, person=blake2b(name.encode(), digest_size=16).digest()).digest()


# The configuration says who comes first, whoever is loaded.
_WILLED = ("ordered", "weighted")
_STRATEGIES: dict[str, Callable[[RouteSettings, Targets, GenerateRequest, Measure], Targets]] = {
    "ordered": _ordered,
    "least_loaded": _least_loaded,
    "weighted": _weighted,
    "prefix": _by_prefix,
}
