"""The engine: one request of ours is one streamed request to the server, which closing the generator closes."""

import asyncio
import io
import ssl
from collections.abc import AsyncGenerator, Awaitable, Sequence
from pathlib import Path
from typing import Self, TypeVar

import aiohttp
import msgspec

from gateway.engine import (
    Delta,
    Engine,
    EngineError,
    Finished,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    Health,
    LoadFailed,
    ModelCard,
    Started,
    Status,
    Unavailable,
    UnknownModel,
    UpstreamFailed,
    Usage,
)
from gateway_openai.dialect import CAPABILITIES, FrameUsage, ListedModel, ListedModels, read_frame, to_body, to_error
from gateway_openai.frames import DONE, MOST_BYTES, FrameReader
from gateway_openai.settings import Settings

_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_STREAM = "text/event-stream"

T = TypeVar("T")


class OpenAiEngine(Engine):
    """Asks a server that speaks OpenAI's dialect."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = settings.base_url.rstrip("/")
        self._cards: dict[str, tuple[ModelCard, str]] = {}
        self._places = asyncio.Semaphore(settings.places)
        self._session: aiohttp.ClientSession | None = None
        self._running = self._waiting = 0

    def models(self) -> Sequence[ModelCard]:
        """Say the models that are configured, or that the server listed."""
        return [card for card, _ in self._cards.values()]

    async def status(self) -> Status:
        """Count the requests; whether the server is well is known by asking it."""
        health = Health.UNLOADED if self._session is None else Health.READY
        return Status(health=health, running=self._running, waiting=self._waiting)

    async def __aenter__(self) -> Self:
        """Open the pool of connections, and ask for the list of models where none is configured."""
        trusted = _trusted(self._settings.ca_file)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._settings.places, ssl=trusted),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_seconds),
            # Nothing is unpacked: a small body may unpack to one without end.
            headers={"accept-encoding": "identity"} | _key_header(self._settings.api_key_file),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        try:
            listed = [ListedModel(name) for name in self._settings.models.values()] or await self._list()
        except EngineError as error:
            await self.__aexit__()
            raise LoadFailed(error.message) from error
        except BaseException:
            await self.__aexit__()
            raise
        names = {theirs: ours for ours, theirs in self._settings.models.items()}
        for model in listed:
            card = self._card(model, names.get(model.id, model.id.rpartition("/")[2]))
            self._cards[card.name] = (card, model.id)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Pass the server's stream on as events; closing the generator closes the server's request."""
        if request.model not in self._cards:
            raise UnknownModel(f"there is no model {request.model!r} behind this engine")
        path, body = to_body(request, self._cards[request.model][1])
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        response: aiohttp.ClientResponse | None = None
        answer = AnswerReader()
        try:
            response = await self._ask(request, path, body)
            while not answer.ended:
                if self._session is None:
                    raise Unavailable("this engine was left while it answered")
                wait = self._settings.idle_seconds if answer.begun else self._settings.first_byte_seconds
                piece = await _within(wait, response.content.readany())
                for event in answer.feed(piece):
                    yield event
        finally:
            self._running -= 1
            self._places.release()
            if response is not None and answer.ended:
                response.release()  # to the pool, where nothing more is to come
            elif response is not None:
                response.close()

    async def _ask(self, request: GenerateRequest, path: str, body: dict[str, object]) -> aiohttp.ClientResponse:
        """Send a request and return its response once that is a stream; raise our error otherwise."""
        if self._session is None:
            raise Unavailable("this engine is not up")
        headers = {"content-type": "application/json", "accept": _STREAM}
        if request.trace is not None:
            headers["traceparent"] = request.trace
        wait = self._settings.first_byte_seconds
        asked = self._session.post(
            self._url + path, data=io.BytesIO(msgspec.json.encode(body)), headers=headers, allow_redirects=False
        )
        response = await _within(wait, asked)
        try:
            await self._check(response)
        except BaseException:
            response.close()
            raise
        return response

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise our error unless the response is a stream."""
        if response.status != 200:  # noqa: PLR2004 - as HTTP numbers it
            refusal = await _within(self._settings.first_byte_seconds, _read(response.content))
            raise to_error(response.status, refusal, response.headers.get("retry-after"))
        if response.content_type != _STREAM:
            raise UpstreamFailed("the server behind this model answered with something else than a stream")

    async def _list(self) -> tuple[ListedModel, ...]:
        if self._session is None:
            raise Unavailable("this engine is not up")
        wait = self._settings.first_byte_seconds
        response = await _within(wait, self._session.get(f"{self._url}/models", allow_redirects=False))
        try:
            if response.status != 200:  # noqa: PLR2004 - as above
                raise to_error(response.status, b"", None)
            listed = msgspec.json.decode(await _within(wait, _read(response.content)), type=ListedModels).data
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamFailed("the server behind this engine lists no models: configure `models`") from error
        finally:
            response.close()
        return listed

    def _card(self, model: ListedModel, name: str) -> ModelCard:
        context = model.context_window or model.max_model_len or self._settings.context_window
        return ModelCard(
            name=name,
            aliases=() if model.id == name else (model.id,),
            context_window=context,
            capabilities=CAPABILITIES,
            places=self._settings.places,
            cache_tokens=self._settings.places * context,
            device="remote",
        )


class AnswerReader:
    """Turns the bytes of a stream into events.

    A frame is not a token: each counts as one when the next comes, and the last as what the server's usage leaves.
    """

    def __init__(self) -> None:
        self._reader = FrameReader()
        self._reason: FinishReason | None = None
        self._usage: FrameUsage | None = None
        self._frames = 0
        self.begun = self.ended = False

    def feed(self, piece: bytes) -> list[GenerateEvent]:
        """Return the events of the next bytes; none at all are the end of the stream."""
        found: list[GenerateEvent] = []
        for data in self._reader.feed(piece):
            if data == DONE:
                return [*found, *self._end()]
            frame = read_frame(data)
            self._usage = frame.usage or self._usage
            for choice in frame.choices[:1]:
                text = choice.text or (choice.delta.content if choice.delta else None)
                if not self.begun and (text or choice.finish_reason):
                    self.begun = True
                    found.append(Started(None))
                if text:
                    found.append(Delta(text, tokens=min(self._frames, 1)))
                    self._frames += 1
                if choice.finish_reason:
                    self._reason = _REASONS.get(choice.finish_reason)
        return found if piece else [*found, *self._end()]

    def _end(self) -> list[GenerateEvent]:
        if self._reason is None:
            raise UpstreamFailed("the server behind this model ended its answer before it was finished")
        if self._usage is None:
            raise UpstreamFailed("the server behind this model did not say how many tokens the answer has")
        self.ended = True
        told = max(self._frames - 1, 0)
        made = max(self._usage.completion_tokens, told)
        return [Delta("", tokens=made - told), Finished(self._reason, Usage(self._usage.prompt_tokens, made))]


async def _within(seconds: float, awaited: Awaitable[T]) -> T:
    """Await within so many seconds; the request's own deadline is the gateway's, which closes the generator."""
    try:
        async with asyncio.timeout(seconds):
            return await awaited
    except TimeoutError as error:
        raise UpstreamFailed("the server behind this model did not answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamFailed("the server behind this model cannot be reached, or hung up") from error


async def _read(content: aiohttp.StreamReader) -> bytes:
    """Read a body that is no stream, up to the same bound as an event."""
    body = bytearray()
    while len(body) <= MOST_BYTES and (piece := await content.readany()):
        body += piece
    return bytes(body[:MOST_BYTES])


def _trusted(file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:  # `SSLError` is one
        raise LoadFailed(f"the certificates in {file} cannot be read") from error


def _key_header(file: str | None) -> dict[str, str]:
    if file is None:
        return {}
    try:
        key = Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LoadFailed(f"the key file {file} cannot be read") from error
    if not key.isascii() or not key.isprintable() or not key:
        raise LoadFailed(f"the key file {file} holds no key: one line of printable ASCII is one")
    return {"authorization": f"Bearer {key}"}
