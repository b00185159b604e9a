"""The engine: one request of ours is one streamed request to the server, which closing the generator closes."""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from http import HTTPStatus
from typing import Any, Self

import aiohttp
from msgspec import structs
from opentelemetry.trace import TracerProvider

from gateway.engine import (
    Chat,
    Completion,
    Embeddings,
    EmbedRequest,
    Engine,
    GenerateEvent,
    GenerateRequest,
    Health,
    InvalidRequest,
    LoadFailed,
    ModelCard,
    Prompt,
    PromptReading,
    ScoreRequest,
    Status,
    TextScores,
    Tokens,
    Unavailable,
    UnknownModel,
    UpstreamFailed,
    secret,
)
from gateway_openai.answer import AnswerReader
from gateway_openai.client import Connecting, UpstreamClient, Watch, bearer, read_key, read_refusal, read_rest
from gateway_openai.discovery import discover
from gateway_openai.questions import RemoteTokenizer
from gateway_openai.refusals import to_error
from gateway_openai.settings import Settings
from gateway_openai.span import ClientSpan, ClientTracing
from gateway_openai.texts import RemoteTexts
from gateway_openai.words import Asked, RemoteModel, to_asked

_STREAM, _WHOLE = "text/event-stream", "application/json"
_PROBE_SECONDS = 1.5


class OpenAiEngine(Engine):
    """Asks a server that speaks OpenAI's dialect; spans of its requests go to `tracing`, or to the global provider."""

    def __init__(self, settings: Settings, tracing: TracerProvider | None = None) -> None:
        self._settings = settings
        self._models: dict[str, RemoteModel] = {}
        self._places = asyncio.Semaphore(settings.places)
        self._client: UpstreamClient | None = None
        self._tracing = ClientTracing(settings.base_url, tracing)
        self._running = self._waiting = 0

    def models(self) -> Sequence[ModelCard]:
        """Say the models that are configured, or that the server listed."""
        return [model.card for model in self._models.values()]

    async def status(self) -> Status:
        """Count the requests; whether the server is well is known by asking it."""
        health = Health.UNLOADED if self._client is None else Health.READY
        return Status(health=health, running=self._running, waiting=self._waiting)

    async def probe(self) -> bool | None:
        """Say whether the server answers its list of models, which costs nothing; a refusal of its own is an answer.

        Where all connections are in use there is none to ask by, and those that use them will tell.
        """
        if self._client is None:
            return False
        if self._running >= self._settings.places:
            return None
        try:
            status, _ = await self._client.ask("GET", f"{self._client.url}/models", seconds=_PROBE_SECONDS)
        except UpstreamFailed:
            return False
        return status < HTTPStatus.INTERNAL_SERVER_ERROR

    async def __aenter__(self) -> Self:
        """Open the pool of connections, and ask which models there are and what they take."""
        settings = self._settings
        connecting = Connecting(
            places=settings.places,
            connect_seconds=settings.connect_seconds,
            headers=_key_header(settings),
            ca_file=settings.ca_file,
        )
        self._client = UpstreamClient(settings.base_url, connecting)
        try:
            await self._client.__aenter__()
            found = await discover(self._client, settings)
        except BaseException:
            await self.__aexit__()
            raise
        self._models = {model.card.name: model for model in found}
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.__aexit__()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Pass the server's stream on as events; closing the generator closes the server's request."""
        model = self._model(request.model)
        loop = asyncio.get_running_loop()
        watch = Watch(loop.time() + request.timeout if request.timeout else math.inf)
        asked = to_asked(await self._prepared(request, model), model)
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        response: aiohttp.ClientResponse | None = None
        answer = AnswerReader(request, asked.most)
        span = self._tracing.begin(request)
        try:
            watch.expect(self._settings.first_byte_seconds)
            response = await self._ask(asked, watch, span)
            watch.watch(response)
            while not answer.ended:
                events = await self._read(asked, answer, response, watch)
                if answer.ended:
                    span.end(*answer.finish)  # before the generation that it belongs to
                for event in events:
                    yield event
            await read_rest(response.content)
        except BaseException as error:
            span.fail(error)
            raise
        finally:
            self._running -= 1
            self._places.release()
            watch.stop()
            span.end(*answer.finish)
            if response is not None and answer.ended:
                response.release()  # to the pool, where nothing more is to come
            elif response is not None:
                response.close()

    async def explain(self, request: GenerateRequest) -> PromptReading:
        """Say what the server's questions tell; what it would be asked for is checked, and not sent."""
        model = self._model(request.model)
        to_asked(await self._prepared(request, model), model)
        return await super().explain(request)

    async def count_tokens(self, model: str, prompt: Prompt) -> int:
        """Count the tokens that the server would read."""
        return len(await self.tokenize(model, prompt))

    async def tokenize(self, model: str, prompt: Prompt) -> tuple[int, ...]:
        """Return the tokens that the server would read."""
        return await RemoteTokenizer(self._open()).ids(self._model(model), prompt)

    async def detokenize(self, model: str, ids: Sequence[int]) -> tuple[str, ...]:
        """Return one piece of text a token."""
        return await RemoteTokenizer(self._open()).pieces(self._model(model), ids)

    async def render(self, model: str, chat: Chat) -> str:
        """Return a conversation as the server's template writes it."""
        return await RemoteTokenizer(self._open()).template(self._model(model), chat)

    async def tokenizer_info(self, model: str) -> dict[str, Any]:
        """Return the configuration of the server's tokenizer."""
        return await RemoteTokenizer(self._open()).info(self._model(model))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Return the vectors that the server makes."""
        return await RemoteTexts(self._open(), self._settings.first_byte_seconds).embed(
            self._model(request.model), request
        )

    async def score(self, request: ScoreRequest) -> TextScores:
        """Return the scores that the server makes, or the classes."""
        return await RemoteTexts(self._open(), self._settings.first_byte_seconds).score(
            self._model(request.model), request
        )

    def _model(self, name: str) -> RemoteModel:
        if name not in self._models:
            raise UnknownModel(f"there is no model {name!r} behind this engine")
        return self._models[name]

    def _open(self) -> UpstreamClient:
        if self._client is None:
            raise Unavailable("this engine is not up")
        return self._client

    async def _prepared(self, request: GenerateRequest, model: RemoteModel) -> GenerateRequest:
        """Tokenize and cut a text here for a server that shows its tokens, but has no words for that."""
        prompt = request.prompt
        if model.profile.tokens != "llama-server" or not isinstance(prompt, Completion):
            return request
        if request.truncate is None and prompt.add_special:
            return request
        ids = await self.tokenize(model.card.name, prompt)
        if request.truncate is not None:
            ids = ids[-request.truncate :]
        return structs.replace(request, prompt=Tokens(ids), truncate=None)

    async def _ask(self, asked: Asked, watch: Watch, span: ClientSpan) -> aiohttp.ClientResponse:
        """Send a request and return its response once that is an answer; raise our error otherwise."""
        client = self._open()
        headers = {"content-type": "application/json", "accept": _WHOLE if asked.is_whole else _STREAM} | span.headers
        response, repeats = await watch.answer(client.send("POST", client.url + asked.path, asked.body, headers))
        span.answered(response.status, repeats)
        try:
            await self._check(asked, response, watch)
        except BaseException:
            response.close()
            raise
        return response

    async def _check(self, asked: Asked, response: aiohttp.ClientResponse, watch: Watch) -> None:
        """Raise our error unless the response is what was asked for."""
        if response.status != HTTPStatus.OK:
            refusal = await watch.answer(read_refusal(response.content))
            error = to_error(response.status, refusal, response.headers.get("retry-after"), asked.sent)
            if type(error) is InvalidRequest:
                error.param = error.param or asked.shape  # servers that name nothing refuse a shape most often
            raise error
        if response.content_type != (_WHOLE if asked.is_whole else _STREAM):
            raise UpstreamFailed("the server behind this model answered with something else than a stream")

    async def _read(
        self, asked: Asked, answer: AnswerReader, response: aiohttp.ClientResponse, watch: Watch
    ) -> list[GenerateEvent]:
        """Read what there is, and let the server be still for a while again where that was part of the answer."""
        if self._client is None:
            raise Unavailable("this engine was left while it answered")
        if asked.is_whole:
            return answer.whole(await watch.read_all(response.content))
        found = answer.feed(await watch.read(response.content))
        if found and answer.begun:
            watch.expect(self._settings.idle_seconds)
        return found


def _key_header(settings: Settings) -> dict[str, str]:
    """Return the header with the key; raise `LoadFailed` where it cannot be had."""
    if settings.api_key_file is not None and settings.api_key_env is not None:
        raise LoadFailed("there are two keys, api_key_file and api_key_env: name one of them")
    if settings.api_key_file is not None:
        return bearer(read_key(settings.api_key_file), f"the key file {settings.api_key_file}")
    if settings.api_key_env is not None:
        return bearer(secret(settings.api_key_env).strip(), f"the variable {settings.api_key_env}")
    return {}
