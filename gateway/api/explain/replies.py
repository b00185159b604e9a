"""From what was found out about a request to the parts of its explanation."""

from gateway.admission import Foresight, ModelQueue
from gateway.api.explain.schema import (
    ExplainedLimits,
    ExplainedPrompt,
    ExplainedQueue,
    ExplainedRoute,
)
from gateway.auth import Caller
from gateway.cache import CacheStatus
from gateway.config import Config
from gateway.engine import ContextTooLong, ModelCard, PromptReading
from gateway.flow.deadline import Timeouts, least, least_known
from gateway.hosting.route import Target

_MOST_IDS = 4_096
_WHY = {
    "ordered": "the first of the route's engines that can serve",
    "least_loaded": "the engine of the route with the shortest predicted wait",
    "weighted": "drawn among the route's engines by their weights",
    "prefix": "the engine of the route that prompts which begin so go to",
}


def why(asked: str | None, chosen: Target, answering: Target) -> str:
    """Say in words why an engine would answer; `chosen` is the one before any was found too small."""
    if chosen.route is None:
        return "the request names no model, and this is the first" if asked is None else "the request names it"
    if answering.card is not chosen.card:
        return "the first engine of the route whose context the prompt fits"
    skipped = chosen.route.skipped
    return _WHY[chosen.route.settings.strategy] + (f"; the first choice is passed over: {skipped}" if skipped else "")


def to_route(asked: str | None, chosen: Target, answering: Target) -> ExplainedRoute | None:
    """Describe the route that a request names; `None` where it names none."""
    route = chosen.route
    if route is None:
        return None
    code = ContextTooLong.code if answering.card is not chosen.card else ""
    return ExplainedRoute(
        name=asked or "",
        strategy=route.settings.strategy,
        engines=tuple(target.hosted.name for target in route.targets),
        fallback=route.skipped or code or None,
    )


def to_prompt(reading: PromptReading, cache: CacheStatus | None) -> ExplainedPrompt:
    """Describe a prompt, with the first of its tokens."""
    return ExplainedPrompt(
        text=reading.text,
        tokens=reading.prompt_tokens,
        ids=None if reading.ids is None else reading.ids[:_MOST_IDS],
        cached_tokens=reading.cached_tokens,
        max_tokens=reading.max_tokens,
        answer_cache="none" if cache is None else cache.value,
    )


def to_queue(foresight: Foresight, queue: ModelQueue) -> ExplainedQueue:
    """Describe a place in line."""
    refusal = foresight.refusal
    return ExplainedQueue(
        position=foresight.position,
        waiting=queue.waiting,
        running=queue.places.running,
        places=queue.places.total,
        seconds=foresight.wait,
        refusal=None if refusal is None else refusal.code,
    )


def to_limits(caller: Caller, card: ModelCard, config: Config, timeouts: Timeouts, tokens: int) -> ExplainedLimits:
    """List the limits of a request that may use so many tokens."""
    quota = caller.quota_or(config.limits.default)
    return ExplainedLimits(
        tokens=tokens,
        requests_per_minute=quota.requests_per_minute,
        tokens_per_minute=quota.tokens_per_minute,
        tokens_per_day=quota.tokens_per_day,
        concurrent=quota.concurrent,
        context_window=card.context_window,
        seconds=least(timeouts.total, config.server.request_seconds),
        queue_seconds=least(timeouts.queue, config.admission.queue_seconds),
        first_token_seconds=least_known(timeouts.first_token, config.admission.first_token_seconds),
    )
