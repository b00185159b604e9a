"""The server that is tried: how it is asked, and what it answered."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, NamedTuple, Self

import httpx
import msgspec

from gateway import __version__

CHAT = "chat/completions"
COMPLETIONS = "completions"
MODELS = "models"
_CONNECT_SECONDS = 10.0
_CLOSING = "[DONE]"


class PeerError(Exception):
    """There is no server to try; the message says why."""


class PeerReply(NamedTuple):
    """A whole answer: its status, its headers, and its body as JSON, or as text where it is none."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def ok(self) -> bool:
        """Whether the server did what was asked."""
        return self.status == HTTPStatus.OK

    @property
    def refused(self) -> bool:
        """Whether the server said that the request is at fault."""
        return HTTPStatus.BAD_REQUEST <= self.status < HTTPStatus.INTERNAL_SERVER_ERROR

    def __str__(self) -> str:
        text = self.body if isinstance(self.body, str) else msgspec.json.encode(self.body).decode()
        return f"{self.status} {text[:160]}"


class PeerStream(NamedTuple):
    """A streamed answer: the data of its frames in order, and whether `[DONE]` closed it."""

    status: int
    headers: Mapping[str, str]
    chunks: list[Any]
    closed: bool

    def joined(self, index: int = 0) -> str:
        """Join the text of a choice."""
        return "".join(_text(choice) for choice in self.choices(index))

    def choices(self, index: int = 0) -> list[dict[str, Any]]:
        """List what the frames say of a choice."""
        every = (choice for chunk in self.chunks for choice in chunk.get("choices") or ())
        return [choice for choice in every if choice.get("index", 0) == index]

    def reason(self, index: int = 0) -> str | None:
        """Tell why a choice ended."""
        return next((choice["finish_reason"] for choice in self.choices(index) if choice.get("finish_reason")), None)

    def usage(self) -> dict[str, int] | None:
        """Tell the usage, which one of the last frames carries."""
        return next((chunk["usage"] for chunk in reversed(self.chunks) if chunk.get("usage")), None)


class Peer:
    """Asks one server under `url` + /v1; a context that holds the connections."""

    model: str

    def __init__(
        self,
        url: str,
        key: str | None = None,
        model: str = "",
        seconds: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self.model = model
        headers = {"user-agent": f"llm-gateway-conformance/{__version__}"}
        # An answer that was kept would hide what the engine does.
        headers["cache-control"] = "no-store"
        self.has_key = key is not None
        if key:
            headers["authorization"] = f"Bearer {key}"
        self._client = httpx.AsyncClient(
            base_url=f"{self.url}/",
            headers=headers,
            timeout=httpx.Timeout(seconds, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        """Connect, and choose the server's first model where none was named; raise `PeerError`."""
        try:
            reply = await self.get(MODELS)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            await self._client.aclose()
            raise PeerError(f"cannot reach {self.url}: {str(error) or _why(error)}") from error
        if not self.model:
            try:
                self.model = str(reply.body["data"][0]["id"])
            except (LookupError, TypeError) as error:
                await self._client.aclose()
                raise PeerError(f"{self.url}/models names no model ({reply}); name one with --model") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get(self, path: str) -> PeerReply:
        """Read a resource."""
        return _reply(await self._client.get(path))

    async def send(self, method: str, path: str, content: bytes, headers: Mapping[str, str] | None = None) -> PeerReply:
        """Send bytes as they are."""
        sent = {"content-type": "application/json"} | dict(headers or {})
        return _reply(await self._client.request(method, path, content=content, headers=sent))

    async def post(self, path: str, **body: object) -> PeerReply:
        """Ask with a body, in which the model is named unless it names one."""
        return _reply(await self._client.post(path, json={"model": self.model} | body))

    async def chat(self, said: str, **body: object) -> PeerReply:
        """Ask for a chat answer to one message."""
        return await self.post(CHAT, messages=[{"role": "user", "content": said}], **body)

    async def complete(self, prompt: str, **body: object) -> PeerReply:
        """Ask for a completion."""
        return await self.post(COMPLETIONS, prompt=prompt, **body)

    async def stream(self, said: str, **body: object) -> PeerStream:
        """Ask for a streamed chat answer to one message, and read it to its end."""
        async with self.opened(said, **body) as answer:
            return await _frames(answer)

    @asynccontextmanager
    async def opened(self, said: str, **body: object) -> AsyncIterator[httpx.Response]:
        """Ask for a streamed chat answer; the connection is closed where the context is left."""
        asked: dict[str, object] = {"model": self.model, "messages": [{"role": "user", "content": said}]}
        async with self._client.stream("POST", CHAT, json=asked | {"stream": True} | body) as answer:
            yield answer


def _why(error: Exception) -> str:
    """Say what an error is that has no words of its own, as one of time has none."""
    return "no answer came in time" if isinstance(error, httpx.TimeoutException) else type(error).__name__


def _reply(answer: httpx.Response) -> PeerReply:
    try:
        body = msgspec.json.decode(answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = answer.text
    return PeerReply(answer.status_code, answer.headers, body)


async def _frames(answer: httpx.Response) -> PeerStream:
    """Read the events of a stream; a frame that is no JSON object stays what it is."""
    chunks: list[Any] = []
    closed = False
    async for line in answer.aiter_lines():
        name, _, value = line.partition(":")
        if name != "data":
            continue
        if value.strip() == _CLOSING:
            closed = True
            continue
        chunks.append(msgspec.json.decode(value.strip()))
    return PeerStream(answer.status_code, answer.headers, chunks, closed)


def _text(choice: Mapping[str, Any]) -> str:
    delta = choice.get("delta")
    return str((delta.get("content") if delta else choice.get("text")) or "")
