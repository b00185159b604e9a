"""One line of a batch on the way that a request over HTTP takes: the dialect's body, the service, its reply."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from loguru import logger
from msgspec import Struct
from opentelemetry.trace import INVALID_SPAN
from ulid import ULID

from gateway.admission import Admission, Standby
from gateway.api.embeddings.questions import ROUTES
from gateway.api.exchange.dialect import Dialect, Endpoint
from gateway.api.exchange.prepared import AskedBody, prepare
from gateway.api.exchange.question import QuestionEndpoint
from gateway.api.http.body import RequestBody, name_ignored
from gateway.api.http.large_bodies import weigh
from gateway.api.http.problems import OWN_WORDS, ErrorWords, Problem, to_problem
from gateway.auth import Caller, Refusal
from gateway.config.snapshot import CurrentConfig
from gateway.engine import EngineError
from gateway.flow.deadline import Timeouts
from gateway.flow.tasks import is_cancelled
from gateway.questions import Inquiry, Questions
from gateway.service import Inference
from gateway.store import BatchFault, TokenSums
from gateway.telemetry import open_record, request_id

_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
_EMBEDDINGS = "/v1/embeddings"
# What is no fault of the line: it is asked again until the batch expires, or so many times where it may be one.
_LATER = frozenset(
    {
        *("overloaded", "queue_timeout", "memory_pressure", "engine_unavailable", "draining", "load_failed"),
        *("rate_limit_exceeded", "tokens_exceeded", "too_many_concurrent", "keys_unavailable", "store_unavailable"),
    }
)
_AGAIN = frozenset({"engine_restarted", "upstream_unavailable", "deadline_exceeded"})
MOST_TRIES = 5
_LEAST_SECONDS, _MOST_SECONDS = 0.5, 30.0
# Nothing that is asked once more keeps an answer for others, nor is one shared: a client could wait for this one.
_HEAD = {"cache-control": "no-store"}
# Fields that ask for another kind of answer than a line's.
_NOT_TAKEN = ("stream", "background")


class LineReply(Struct, frozen=True):
    """What the route answered to a line."""

    status: int
    request_id: str
    body: bytes
    tokens: TokenSums = TokenSums()

    @property
    def is_error(self) -> bool:
        """Whether it is an error."""
        return self.status != HTTPStatus.OK


class Later(Struct, frozen=True):
    """A line was not answered, and is asked again after so many seconds; it may be to blame where that `counts`."""

    seconds: float = 0.0
    counts: bool = False
    reply: LineReply | None = None


class KeyGone(Exception):
    """The key that the batch was made with is no longer valid."""

    fault = BatchFault("invalid_api_key", "the key that this batch was made with is no longer valid")


class _TokenDetails(Struct):
    cached_tokens: int | None = 0
    reasoning_tokens: int | None = 0


class _Tokens(Struct):
    """The usage of any route's reply."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    prompt_tokens_details: _TokenDetails | None = None
    completion_tokens_details: _TokenDetails | None = None
    input_tokens_details: _TokenDetails | None = None
    output_tokens_details: _TokenDetails | None = None


class _UsedReply(Struct):
    usage: _Tokens | None = None


_usage = msgspec.json.Decoder(_UsedReply)


class LineEndpoint(Struct, frozen=True):
    """A route that lines may be for, and its words for errors."""

    endpoint: Endpoint[Any] | QuestionEndpoint[Any, bytes]
    words: ErrorWords = OWN_WORDS


def endpoints_of(dialects: Iterable[Dialect]) -> dict[str, LineEndpoint]:
    """Find the routes that lines may be for, by their paths."""
    found = {
        endpoint.path: LineEndpoint(endpoint, dialect.errors)
        for dialect in dialects
        for endpoint in dialect.endpoints
        if endpoint.path in _PATHS
    }
    return found | {route.path: LineEndpoint(route.endpoint) for route in ROUTES if route.path == _EMBEDDINGS}


class _GiveWay:
    """Ends the answer to a line, as a request has come."""

    def __init__(self) -> None:
        self.is_called = False
        self.task: asyncio.Task[LineReply] | None = None

    def __call__(self) -> None:
        self.is_called = True
        if self.task is not None:
            self.task.cancel()


class LineAsker:
    """Asks lines of all batches, `batches.at_once` of a model at once; each gives way to clients' requests."""

    def __init__(
        self,
        inference: Inference,
        questions: Questions,
        admission: Admission,
        current: CurrentConfig,
        endpoints: Mapping[str, LineEndpoint],
    ) -> None:
        self.files = inference.files
        self._inference = inference
        self._questions = questions
        self._admission = admission
        self.current = current
        self._endpoints = endpoints
        most = current.config.batches.at_once
        self._turns = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(most))
        self.given_way = 0

    def name_of(self, model: str) -> str:
        """Return the own name of the model that a line names; empty for none of ours."""
        return self._inference.router.name(model)

    def checker(self, path: str) -> Callable[[bytes], str | None]:
        """Return what checks a body for a route: it raises `Problem`, and returns the model that is named."""
        endpoint = self._endpoints[path].endpoint

        def check(raw: bytes) -> str | None:
            body = self._decode(endpoint, raw)
            for name in _NOT_TAKEN:
                if getattr(body, name, None):
                    what = f"{name}: a line of a batch is answered whole, once; leave it out"
                    raise Problem("unsupported_parameter", what, param=f"body.{name}")
            return None if body.model is None else str(body.model)

        return check

    async def ask(self, owner: str, path: str, raw: bytes) -> LineReply | Later:
        """Ask one line, once no client's request is there; raise `KeyGone`."""
        endpoint = self._endpoints[path]
        own_id = str(ULID())
        try:
            caller = await self._caller(owner)
            body = self._decode(endpoint.endpoint, raw)
            card = (await self._inference.find_loaded(body.model, caller, Timeouts())).card
            await self._admission.wait_idle(card, self._standby(_GiveWay()))
            async with self._turns[card.name]:
                return await self._ask(endpoint, caller, body, own_id, weigh(raw))
        except KeyGone:
            raise
        except Exception as error:  # noqa: BLE001 - no client waits for it: the file of the errors tells
            return self._fail(error, endpoint.words, own_id)

    async def _ask(
        self,
        endpoint: LineEndpoint,
        caller: Caller,
        body: Any,  # noqa: ANN401 - any route's
        own_id: str,
        weight: int,
    ) -> LineReply | Later:
        """Answer in a task of its own, which is ended where a request comes."""
        way = _GiveWay()
        asked = AskedBody(body, weight, _HEAD, self._standby(way))
        way.task = asyncio.create_task(self._answer(endpoint.endpoint, caller, asked, own_id))
        try:
            return await way.task
        except asyncio.CancelledError:
            if not way.is_called or is_cancelled():
                raise
            self.given_way += 1
            return Later()
        finally:
            way.task = None

    async def _answer(
        self,
        endpoint: Endpoint[Any] | QuestionEndpoint[Any, bytes],
        caller: Caller,
        asked: AskedBody[Any],
        own_id: str,
    ) -> LineReply:
        request_id.set(own_id)
        record = open_record(INVALID_SPAN)
        record.key = caller.id
        try:
            if isinstance(endpoint, Endpoint):
                made = await prepare(self._inference, endpoint, caller, asked)
                body, _ = await made.whole()
            else:
                target = self._inference.find(asked.body.model, caller)
                inquiry = Inquiry(target, caller, None, asked.weight, asked.standby)
                body = await endpoint.ask(self._questions, inquiry, asked.body)
        except EngineError as error:
            endpoint.reword(error, asked.body)
            raise
        finally:
            record.close()
        return LineReply(HTTPStatus.OK, own_id, body, _tokens(body))

    def _fail(self, error: Exception, words: ErrorWords, own_id: str) -> LineReply | Later:
        problem = to_problem(error)
        if problem.code == "internal_error":
            logger.opt(exception=error).error("a line of a batch failed in a way that nothing foresaw")
        reply = LineReply(words.to_status(problem), own_id, words.to_json(problem, own_id))
        if problem.code in _LATER:
            return Later(_seconds(problem))
        return Later(_seconds(problem), counts=True, reply=reply) if problem.code in _AGAIN else reply

    async def _caller(self, owner: str) -> Caller:
        """Find the caller that a batch belongs to, as its key is now."""
        keyring = self.current.snapshot.keyring
        if keyring.is_behind():
            await keyring.refresh()
        found = keyring.caller_of(owner)
        if found is Refusal.UNREAD:
            raise Problem("keys_unavailable")
        if isinstance(found, Refusal):
            raise KeyGone
        return found

    def _decode(self, endpoint: Endpoint[Any] | QuestionEndpoint[Any, bytes], raw: bytes) -> Any:  # noqa: ANN401
        body = RequestBody(raw, weigh(raw))
        value = body.decode(endpoint.decoder)
        name_ignored(body.unknown(value), self.current.config.server)
        return value

    def _standby(self, way: Callable[[], None]) -> Standby:
        settings = self.current.config.batches
        return Standby(give_way=way, quiet_seconds=settings.quiet_seconds, beside=settings.beside)


def _seconds(problem: Problem) -> float:
    hint = problem.headers.get("retry-after", "")
    seconds = float(hint) if hint.isdigit() else _LEAST_SECONDS
    return min(max(seconds, _LEAST_SECONDS), _MOST_SECONDS) * random.uniform(0.8, 1.2)  # noqa: S311 - no secret


def _tokens(body: bytes) -> TokenSums:
    """Read the tokens that a reply tells of."""
    used = _usage.decode(body).usage
    if used is None:
        return TokenSums()
    read = used.prompt_tokens_details or used.input_tokens_details or _TokenDetails()
    written = used.completion_tokens_details or used.output_tokens_details or _TokenDetails()
    return TokenSums(
        used.prompt_tokens or used.input_tokens,
        read.cached_tokens or 0,
        used.completion_tokens or used.output_tokens,
        written.reasoning_tokens or 0,
    )
