"""Requests through the whole application in this process, without granian: as a server hands them over."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress

from gateway.app import create_app
from gateway.config import Config

SCOPE = {
    "type": "http", "query_string": b"", "client": ("127.0.0.1", 1), "server": ("localhost", 80), "scheme": "http",
    "http_version": "1.1", "asgi": {"version": "3.0"}, "root_path": "",
}  # fmt: skip


@asynccontextmanager
async def running(config: Config):
    """Enter the application, and wait until its engines are loaded."""
    app = create_app(config)
    async with app.lifespan():
        hosting = await app.dependencies["hosting"].dependency()
        await hosting.settled.wait()
        yield app


async def ask(app, path, body=b"", *headers, method="POST", **behaviour):
    """Send one request; return the status and the body of its answer.

    The client `leaves`, or the server `cancels` the request, after so many seconds; one that `stalls` takes no piece.
    The bodies of all writes are put into a list `writes`.
    """
    leaves, cancels, stalls = (behaviour.get(name) for name in ("leaves", "cancels", "stalls"))
    writes = behaviour.get("writes", [])
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    left = [{"type": "http.request", "body": raw, "more_body": False}]
    status, answer = [], bytearray()

    async def receive():
        if left:
            return left.pop()
        await (asyncio.Event().wait() if leaves is None else asyncio.sleep(leaves))
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            status.append(message["status"])
        else:
            writes.append(message["body"])
        answer.extend(message.get("body", b""))
        if stalls and message.get("more_body"):
            await asyncio.Event().wait()

    length = (b"content-length", str(len(raw)).encode())
    own = [(b"host", b"localhost"), (b"content-type", b"application/json"), length]
    given = {name for name, _ in headers}
    kept = [header for header in own if header[0] not in given]
    scope = SCOPE | {"method": method, "path": path, "raw_path": path.encode(), "headers": [*kept, *headers]}
    work = asyncio.ensure_future(app({**scope, "state": {}}, receive, send))
    if cancels is not None:
        await asyncio.sleep(cancels)
        work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    return (status or [0])[0], bytes(answer)
