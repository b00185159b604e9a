"""What would become of a request: the way of every request, left before anything of it begins."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

import msgspec
from msgspec import Raw, Struct

from gateway.admission import Admission, Foresight, Permit, WaitLimits, reading_cost
from gateway.api.embeddings.questions import ROUTES as EMBEDDINGS
from gateway.api.exchange.dialect import Dialect, Endpoint, Parameters
from gateway.api.exchange.prepared import AskedBody, Prepared, prepare
from gateway.api.exchange.question import QuestionEndpoint
from gateway.api.exchange.score_budget import budget_of
from gateway.api.explain.parameters import of_generation, of_question
from gateway.api.explain.prompts import read_prompt, read_texts, texts_of
from gateway.api.explain.replies import to_limits, to_prompt, to_queue, to_route, why
from gateway.api.explain.schema import Explanation
from gateway.api.http.body import RequestBody, name_ignored
from gateway.api.http.headers import read_timeouts
from gateway.api.http.large_bodies import weigh
from gateway.api.http.problems import Problem
from gateway.api.rerank.questions import ROUTES as RERANK
from gateway.auth import Caller
from gateway.cache import CacheStatus
from gateway.engine import EmbedRequest, EngineError, GenerateRequest, ModelCard, ScoreRequest, negotiate
from gateway.flow.deadline import Timeouts
from gateway.flow.offload import offload_large
from gateway.inflight import InFlightRequest
from gateway.questions import Inquiry, Questions, check_needs, cost_bound
from gateway.service import Inference
from gateway.telemetry import request_id

_MOST_PROMPTS = 16
_KEYS = msgspec.json.Decoder(dict[str, Raw])


class ExplainedEndpoint(NamedTuple):
    """A route whose requests are explained, and the table of its parameters."""

    endpoint: Endpoint[Any] | QuestionEndpoint[Any, Any]
    parameters: Callable[[ModelCard], Parameters] | None = None


def explained_endpoints(dialects: Iterable[Dialect]) -> dict[str, ExplainedEndpoint]:
    """Find the routes whose requests are explained, by their paths."""
    found: dict[str, ExplainedEndpoint] = {}
    for dialect in dialects:
        for endpoint in dialect.endpoints:
            table = dialect.parameters.get(endpoint.path.removeprefix("/v1/").replace("/", "."))
            found |= dict.fromkeys((endpoint.path, *endpoint.aliases), ExplainedEndpoint(endpoint, table))
    for route in (*EMBEDDINGS, *RERANK):
        found |= dict.fromkeys((route.path, *route.aliases), ExplainedEndpoint(route.endpoint))
    return found


class ExplainedRequest(Struct, frozen=True):
    """A request to explain, with its caller, and how it is answered."""

    url: str
    caller: Caller
    body: AskedBody[Any]
    without_effect: Callable[[ModelCard], tuple[str, ...]]


class Explainer:
    """Explains requests of all routes that ask a model for something."""

    def __init__(
        self,
        inference: Inference,
        questions: Questions,
        admission: Admission,
        endpoints: Mapping[str, ExplainedEndpoint],
    ) -> None:
        self._inference = inference
        self._questions = questions
        self._admission = admission
        self._endpoints = endpoints

    async def explain(
        self, caller: Caller, url: str, raw: bytes, head: Mapping[str, str]
    ) -> tuple[Explanation, dict[str, str]]:
        """Return the explanation of a request, and the headers that its answer would have for its unknown fields.

        Raises `Problem` or `EngineError`, as the route itself would before it computes.
        """
        known = self._endpoints.get(url)
        if known is None:
            raise Problem("invalid_value", f"url: there is {', '.join(self._endpoints)}", param="url")
        endpoint, weight = known.endpoint, weigh(raw)

        def decode() -> tuple[Any, list[str], frozenset[str]]:
            body = RequestBody(raw, weight)
            value = body.decode(endpoint.decoder)
            return value, body.unknown(value), frozenset(_KEYS.decode(raw))

        value, unknown, keys = await offload_large(weight, decode)
        headers = name_ignored(unknown, self._inference.config.server)

        def without_effect(card: ModelCard) -> tuple[str, ...]:
            return () if known.parameters is None else tuple(sorted(keys & set(known.parameters(card).taken)))

        asked = ExplainedRequest(url, caller, AskedBody(value, weight, head), without_effect)
        try:
            if isinstance(endpoint, Endpoint):
                return await self._explain_generation(endpoint, asked), headers
            return await self._explain_question(endpoint, asked), headers
        except EngineError as error:
            endpoint.reword(error, value)
            raise

    async def _explain_generation(self, endpoint: Endpoint[Any], asked: ExplainedRequest) -> Explanation:
        made = await prepare(self._inference, endpoint, asked.caller, asked.body)
        requests, target = self._bounded(made), made.target
        for request in requests:
            negotiate(request, target.card)
        entries = [
            self._inference.admit(request, asked.caller, target, made.options) for request in requests[:_MOST_PROMPTS]
        ]
        inquiry = Inquiry(target, asked.caller, made.options.timeouts.total, asked.body.weight)
        cost = sum(reading_cost(entry.request.prompt) for entry in entries)
        async with self._questions.hold(asked.caller, cost) as allowance:
            inquiry = inquiry._replace(allowance=allowance)
            found = [
                await read_prompt(self._questions, inquiry, entry, self._inference.maker.salt_of(entry))
                for entry in entries
            ]
        caches = [await self._cache(entry) for entry in entries]
        tokens = sum(self._admission.cost(request, target.card, made.prompts.best_of) for request in requests)
        first, answering = entries[0], found[0].target
        foresight = self._foresee(
            lambda: self._admission.permit(first.request, answering.card, asked.caller.id, first.wait_limits)
        )
        return Explanation(
            id=request_id.get(),
            url=asked.url,
            model=answering.card.name,
            engine=answering.hosted.name,
            plugin=answering.hosted.plugin,
            why=why(made.body.model, target, answering),
            route=to_route(made.body.model, target, answering),
            is_loaded=answering.hosted.is_up,
            prompts=tuple(map(to_prompt, (each.reading for each in found), caches)),
            prompts_in_all=len(requests),
            answers=made.prompts.best_of,
            parameters=of_generation(first.request, answering.card),
            without_effect=asked.without_effect(answering.card),
            queue=to_queue(foresight, self._admission.queue(answering.card)),
            first_token_seconds=0.0 if caches[0] == CacheStatus.HIT else foresight.first_token,
            limits=to_limits(asked.caller, answering.card, self._inference.config, made.options.timeouts, tokens),
        )

    async def _explain_question(self, endpoint: QuestionEndpoint[Any, Any], asked: ExplainedRequest) -> Explanation:
        timeouts = read_timeouts(asked.body.head, Timeouts())
        target = self._inference.find(asked.body.body.model, asked.caller)
        card = target.card
        inquiry = Inquiry(target, asked.caller, timeouts.total, asked.body.weight)
        request = await _overhear(endpoint, inquiry, asked.body.body)
        texts, bound = texts_of(request), cost_bound(request, card)
        shown = texts[:_MOST_PROMPTS]
        async with self._questions.hold(asked.caller, sum(map(reading_cost, shown))) as allowance:
            inquiry = inquiry._replace(allowance=allowance)
            found = await read_texts(self._questions, inquiry, shown, request.truncate)
        waiting = GenerateRequest(id="", model=card.name, prompt=texts[0], priority=asked.caller.priority)
        limits = WaitLimits(place=time.monotonic() + self._inference.config.admission.queue_seconds)
        foresight = self._foresee(lambda: self._admission.ask(waiting, card, asked.caller.id, limits, bound))
        return Explanation(
            id=request_id.get(),
            url=asked.url,
            model=card.name,
            engine=target.hosted.name,
            plugin=target.hosted.plugin,
            why=why(asked.body.body.model, target, target),
            route=to_route(asked.body.body.model, target, target),
            is_loaded=target.hosted.is_up,
            prompts=tuple(to_prompt(reading, None) for reading in found),
            prompts_in_all=len(texts),
            answers=1,
            parameters=of_question(request),
            without_effect=(),
            queue=to_queue(foresight, self._admission.questions[card.batch]),
            first_token_seconds=foresight.first_token,
            limits=to_limits(asked.caller, card, self._inference.config, timeouts, bound),
        )

    def _bounded(self, made: Prepared[Any]) -> tuple[GenerateRequest, ...]:
        """Return the requests as a run would begin them; raise `InvalidRequest` for too many scores."""
        prompts = made.prompts
        budget = budget_of(prompts, made.card, self._inference.config.server.max_logprobs)
        if budget is not None:
            budget.check_prompts()
            if not made.body.stream or made.rendering.holds_answers:
                prompts = budget.bound_answers()
        return prompts.requests

    async def _cache(self, entry: InFlightRequest) -> CacheStatus | None:
        key = self._inference.shared_key(entry)
        return None if key is None else await self._inference.cache.foresee(key, entry.options.cache_policy)

    def _foresee(self, make: Callable[[], Permit]) -> Foresight:
        """Say how a permit would fare; one that is not even made, for want of memory, is refused."""
        try:
            return make().foresee()
        except EngineError as error:
            return Foresight(0, None, None, error)


class _Overheard(Exception):
    """What a route was about to ask an engine."""

    def __init__(self, request: EmbedRequest | ScoreRequest) -> None:
        super().__init__()
        self.request = request


class _Listener(Questions):
    """Takes note of the vectors or scores that are asked for, and asks no engine."""

    def __init__(self) -> None:
        """Hold nothing to ask with."""

    async def embed(self, inquiry: Inquiry, request: EmbedRequest) -> NoReturn:
        """Note a question for vectors."""
        check_needs(request, inquiry.target.card)
        raise _Overheard(request)

    async def score(self, inquiry: Inquiry, request: ScoreRequest) -> NoReturn:
        """Note a question for scores."""
        check_needs(request, inquiry.target.card)
        raise _Overheard(request)


async def _overhear(
    endpoint: QuestionEndpoint[Any, Any], inquiry: Inquiry, body: object
) -> EmbedRequest | ScoreRequest:
    """Return what a route would ask of an engine for a body; raise `EngineError` where it would ask nothing."""
    try:
        await endpoint.ask(_Listener(), inquiry, body)
    except _Overheard as overheard:
        return overheard.request
    raise TypeError("a route that is explained asks for vectors or scores")
