"""A client that notes what came of each request, however it ended."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Literal

import aiohttp
from msgspec import Struct

End = Literal["whole", "error", "refused", "truncated", "reset"]


class Result(Struct):
    """One request: its status, how it ended, when it began, its seconds and its text."""

    end: End
    status: int = 0
    code: str = ""
    text: str = ""
    began: float = 0.0
    seconds: float = 0.0
    retry_after: str | None = None

    @property
    def ended(self) -> float:
        """When it was over."""
        return self.began + self.seconds


class Client:
    """Asks one service."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str = "") -> None:
        self._session = session
        self.url = url
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    async def ask(
        self, prompt: str, *, stream: bool = False, model: str | None = None, most: int | None = None
    ) -> Result:
        """Send one request, for at most so many tokens, and note what came of it."""
        began = time.monotonic()
        body = {"prompt": prompt, "stream": stream, "return_full_text": False, "model": model, "max_new_tokens": most}
        try:
            async with self._session.post(f"{self.url}/v1/generate", json=body, headers=self._headers) as answer:
                result = await (_streamed(answer) if stream and answer.status == 200 else _whole(answer))
                result.status, result.retry_after = answer.status, answer.headers.get("retry-after")
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            result = Result("reset")
        result.began, result.seconds = began, time.monotonic() - began
        return result

    async def probe(self, path: str = "/livez") -> tuple[int, float]:
        """Ask a probe; return its status, 0 where there was no answer, and the seconds."""
        began = time.monotonic()
        try:
            async with self._session.get(f"{self.url}{path}") as answer:
                await answer.read()
                return answer.status, time.monotonic() - began
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return 0, time.monotonic() - began


@asynccontextmanager
async def client(url: str, key: str = "") -> AsyncGenerator[Client, None]:
    """Make a client with as many connections as it takes."""
    connector = aiohttp.TCPConnector(limit=0, force_close=False)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield Client(session, url, key)


async def offer(ask: Callable[[], Coroutine[None, None, Result]], rate: float, seconds: float) -> list[Result]:
    """Send `rate` requests a second for so long, whatever becomes of those before (an open loop)."""
    began = time.monotonic()
    tasks: list[asyncio.Task[Result]] = []
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        tasks.append(asyncio.create_task(ask()))
    return list(await asyncio.gather(*tasks))


async def _whole(answer: aiohttp.ClientResponse) -> Result:
    body = json.loads(await answer.read())
    if "error" in body:
        return Result("refused", code=body["error"]["code"])
    return Result("whole", text=body["generated_text"])


async def _streamed(answer: aiohttp.ClientResponse) -> Result:
    """Read a stream; it is whole with `[DONE]`, an error with an error frame, and otherwise was cut off silently."""
    result, is_done = Result("truncated"), False
    async for line in answer.content:
        if not line.startswith(b"data: "):
            continue
        data = line[6:].strip()
        if data == b"[DONE]":
            is_done = True
            continue
        frame = json.loads(data)
        if "error" in frame:
            return Result("error", code=frame["error"]["code"], text=result.text)
        result.text += frame["text"]
    if is_done:
        result.end = "whole"
    return result
