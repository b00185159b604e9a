"""A server that answers byte for byte as it is told: what no real server does on request."""

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager

import msgspec

from gateway.engine import Engine
from gateway_openai import Settings, build

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
TEXT = "Grüße, 世界! 🙂"


def frame(**fields) -> bytes:
    """Write an event."""
    return b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"


def said(text: str, reason: str | None = None) -> bytes:
    """Write an event with a piece of a completion."""
    return frame(choices=[{"index": 0, "text": text, "finish_reason": reason}])


def called(**piece) -> bytes:
    """Write an event with a piece of a call."""
    return frame(choices=[{"index": 0, "delta": {"tool_calls": [piece]}}])


USAGE = frame(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 9})
END = said("", "stop") + USAGE + b"data: [DONE]\n\n"
GOOD = HEAD + b"".join(map(said, TEXT)) + END


def whole(status: str, body: bytes, *headers: str) -> bytes:
    """Write an answer that is no stream."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, ""))
    return head.encode() + body


class Script:
    """Sends its pieces to each client, and then hangs up or keeps still; `pieces` may be endless.

    `heads` are those of the requests, `sent` the bytes that were taken; `asked` is set when a request has come, `left`
    when a client has left.
    """

    def __init__(self, *pieces: bytes, still: bool = False, pause: float = 0.0) -> None:
        self._pieces: Callable[[], Iterable[bytes]] = lambda: pieces
        self._still, self._pause = still, pause
        self.heads: list[bytes] = []
        self.asked = asyncio.Event()
        self.sent = 0
        self.left = asyncio.Event()

    @classmethod
    def endless(cls, *first: bytes, again: bytes, pause: float = 0.0) -> "Script":
        """Send the first pieces once, and the last one without end."""
        script = cls(pause=pause)
        script._pieces = lambda: itertools.chain(first, itertools.repeat(again))
        return script

    @classmethod
    def each(cls, *answers: bytes, still: bool = False) -> "Script":
        """Send another answer to each client, in their order."""
        script, rest = cls(still=still), iter(answers)
        script._pieces = lambda: (next(rest),)
        return script

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client."""
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            self.asked.set()
            for piece in self._pieces():
                writer.write(piece)
                await writer.drain()
                self.sent += len(piece)
                await asyncio.sleep(self._pause)
            if self._still:
                while await reader.read(65_536):
                    pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.left.set()
            writer.close()


@asynccontextmanager
async def behind(script: Script, **settings) -> AsyncGenerator[Engine, None]:
    """Enter the engine `openai` before a script."""
    server = await asyncio.start_server(script.answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    known = {"base_url": url, "server": "openai", "models": {"m": "their/m"}}
    try:
        async with build(msgspec.convert(known | settings, Settings)) as engine:
            yield engine
    finally:
        server.close()
