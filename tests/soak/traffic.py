"""The traffic of a soak: each kind is a function that sends one request, or a few that belong together."""

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import aiohttp

from tests.support.batches import OVER, Lines

# What a client is told for a while after an engine was killed, or where a limit is full.
_TYPED = {503, 504, 529}
_FAULT_SECONDS = 15.0
_PATIENCE_SECONDS = 60.0
_WORDS = "river stone lamp door paper cloud engine letter winter salt".split()  # noqa: SIM905 - a text to draw from

_GENERATE, _COMPLETE, _CHAT = "/v1/generate", "/v1/completions", "/v1/chat/completions"
_RESPOND, _MESSAGE = "/v1/responses", "/v1/messages"
_QUESTIONS: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("/tokenize", {"model": "tiny", "prompt": "é b c " * 50}),
    ("/detokenize", {"model": "tiny", "tokens": [5] * 50}),
    ("/apply-template", {"model": "tiny", "messages": [{"role": "user", "content": "a"}]}),
    ("/v1/messages/count_tokens", {"model": "tiny", "messages": [{"role": "user", "content": "a"}]}),
)
_PAGES = (
    "/",
    "/docs",
    "/schema/openapi.json",
    "/v1/models",
    "/v1/health",
    "/v1/requests",
    "/readyz",
    "/metrics",
    "/no",
)
_BAD: Sequence[tuple[str, bytes]] = (
    (_GENERATE, b""),
    (_GENERATE, b"{"),
    (_GENERATE, b'{"prompt": 5}'),
    (_GENERATE, b'{"prompt": "a", "temperature": 1e999}'),
    (_GENERATE, b'{"prompt": "a", "max_new_tokens": -1}'),
    (_GENERATE, b"[" * 5_000),
    (_COMPLETE, b'{"model": "nothing", "prompt": "a"}'),
    (_COMPLETE, b'{"model": "tiny", "prompt": "\xff"}'),
    (_CHAT, b'{"model": "tiny", "messages": []}'),
    (_CHAT, b'{"model": "tiny", "messages": [{"role": "nobody", "content": "a"}]}'),
    (_CHAT, b'{"model": "tiny", "messages": [{"role": "user", "content": "a"}], "guided_regex": "("}'),
    (_RESPOND, b'{"model": "echo", "input": [{"type": "what"}]}'),
    (_RESPOND, b'{"model": "echo", "input": "a", "previous_response_id": "resp_none"}'),
    (_MESSAGE, b'{"model": "echo", "messages": [{"role": "user", "content": "a"}]}'),
    ("/v1/batches", b'{"input_file_id": "file-none", "endpoint": "/v1/completions", "completion_window": "24h"}'),
)


class Traffic:
    """Sends requests of every kind with a key, and notes what came of them by kind.

    `faults` are the moments (monotonic seconds) at which an engine was killed: typed errors are expected then.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: str, keys: Mapping[str, str], chance: random.Random
    ) -> None:
        self.faults: list[float] = []
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.statuses: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self.unprovoked: list[str] = []
        self._session, self._url, self._keys, self._chance = session, url, keys, chance
        self._kinds: dict[Callable[[], Awaitable[None]], int] = {
            self.generate: 6,
            self.complete: 6,
            self.chat: 6,
            self.respond: 4,
            self.message: 6,
            self.question: 4,
            self.page: 3,
            self.bad: 8,
            self.abort: 8,
            self.limited: 3,
            self.cached: 4,
            self.batch: 1,
        }

    async def flow(self, until: float) -> None:
        """Send one after the other until that monotonic second."""
        while time.monotonic() < until:
            [kind] = self._chance.choices([*self._kinds], [*self._kinds.values()])
            await kind()

    async def generate(self) -> None:
        """Ask in the service's own dialect."""
        await self._ask(
            "generate", _GENERATE, {"prompt": self._text(), "max_new_tokens": self._chance.randrange(1, 40)}
        )

    async def complete(self) -> None:
        """Ask for completions, some with several choices or probabilities."""
        more = self._chance.choice([{}, {"n": 3}, {"logprobs": 2}, {"echo": True, "max_tokens": 2}])
        await self._ask("completions", _COMPLETE, {"prompt": self._text(), "max_tokens": 12, "model": "tiny"} | more)

    async def chat(self) -> None:
        """Chat, some of it held to a schema."""
        shape = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["yes", "no"]}}}
        more = self._chance.choice([{}, {}, {"response_format": shape, "model": "tiny"}])
        await self._ask("chat", _CHAT, {"messages": self._said(), "max_tokens": 12} | more)

    async def respond(self) -> None:
        """Ask for a response that is stored; read it again and delete it."""
        body = {"model": self._model(), "input": self._text(), "max_output_tokens": 20}
        made = _decoded(await self._send("responses", "POST", _RESPOND, body))
        if made.get("id"):
            await self._send("stored", "GET", f"{_RESPOND}/{made['id']}")
            await self._send("stored", "DELETE", f"{_RESPOND}/{made['id']}")

    async def message(self) -> None:
        """Ask in Anthropic's dialect."""
        await self._ask("messages", _MESSAGE, {"messages": self._said(), "max_tokens": 12})

    async def question(self) -> None:
        """Ask about tokens."""
        path, body = self._chance.choice(_QUESTIONS)
        await self._send("questions", "POST", path, body)

    async def page(self) -> None:
        """Get a page, a list, a probe or the metrics."""
        await self._send("pages", "GET", self._chance.choice(_PAGES))

    async def bad(self) -> None:
        """Send what must be refused."""
        path, body = self._chance.choice(_BAD)
        await self._send("bad input", "POST", path, body)

    async def abort(self) -> None:
        """Leave before the answer, or within it."""
        body = {"model": self._model(), "prompt": self._text() * 20, "stream": self._chance.random() < 0.5}
        try:
            async with asyncio.timeout(self._chance.uniform(0, 0.2)):
                await self._exchange("POST", _GENERATE, body | {"max_new_tokens": 400}, "attacker")
        except (aiohttp.ClientError, OSError):  # a time-out is one of these
            pass
        self.statuses["aborts"][0] += 1

    async def limited(self) -> None:
        """Ask with a key that has limits."""
        await self._send("limited", "POST", _GENERATE, {"prompt": self._text(), "max_new_tokens": 2}, "limited")

    async def cached(self) -> None:
        """Ask what was asked before, and something that will be asked again."""
        body = {"prompt": self._chance.choice(_WORDS), "temperature": 0, "max_new_tokens": 8, "model": self._model()}
        await self._send("cached", "POST", _GENERATE, body)

    async def batch(self) -> None:
        """Have a batch of three lines done, or cancel it; delete its files."""
        lines = Lines(_COMPLETE).add_all({"model": "echo", "prompt": self._text(), "max_tokens": 4} for _ in range(3))
        form = aiohttp.FormData({"purpose": "batch"})
        form.add_field("file", lines.content, filename="lines.jsonl")
        given = _decoded(await self._send("files", "POST", "/v1/files", form))
        asked = {"input_file_id": given.get("id"), "endpoint": _COMPLETE, "completion_window": "24h"}
        made = _decoded(await self._send("batches", "POST", "/v1/batches", asked))
        if not made.get("id"):
            return
        made = await self._wait_for(made, self._chance.uniform(1, 10))
        if made.get("status") not in OVER:
            # The file of one that still ends cannot be deleted.
            await self._send("batches", "POST", f"/v1/batches/{made['id']}/cancel", {})
            made = await self._wait_for(made, _PATIENCE_SECONDS)
        for name in ("input_file_id", "output_file_id", "error_file_id"):
            if made.get(name):
                await self._send("files", "DELETE", f"/v1/files/{made[name]}")

    async def _wait_for(self, batch: dict[str, Any], seconds: float) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while batch.get("status") not in OVER and time.monotonic() < until:
            await asyncio.sleep(0.5)
            batch |= _decoded(await self._send("batches", "GET", f"/v1/batches/{batch['id']}"))
        return batch

    async def _ask(self, kind: str, path: str, body: dict[str, Any]) -> None:
        streams = self._chance.random() < 0.5
        told = await self._send(
            f"{kind}, streamed" if streams else kind, "POST", path, {"model": self._model(), "stream": streams} | body
        )
        if streams and b'"error":{' in told and not self._is_provoked():
            self.unprovoked.append(f"{path} {told[-300:]!r}")

    async def _send(self, kind: str, method: str, path: str, body: object = None, key: str = "attacker") -> bytes:
        """Send a request and note its status and seconds; return what was told."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                status, told = await self._exchange(method, path, body, key)
        except (aiohttp.ClientError, OSError) as error:
            status, told = 599, repr(error).encode()
        self.seconds[kind].append(time.monotonic() - began)
        self.statuses[kind][status] += 1
        if status >= 500 and not (status in _TYPED and self._is_provoked(began)):
            self.unprovoked.append(f"{status} {method} {path} {told[:300]!r}")
        return told

    async def _exchange(self, method: str, path: str, body: object, key: str) -> tuple[int, bytes]:
        headers = {"authorization": f"Bearer {self._keys[key]}"}
        data = body
        if body is not None and not isinstance(body, aiohttp.FormData):
            headers["content-type"] = "application/json"
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self._session.request(method, self._url + path, data=data, headers=headers) as answer:
            return answer.status, await answer.read()

    def _is_provoked(self, began: float = 0.0) -> bool:
        now = time.monotonic()
        return any((began or now) - _FAULT_SECONDS < fault < now for fault in self.faults)

    def _model(self) -> str:
        return self._chance.choice(["echo", "tiny", "scripted"])

    def _text(self) -> str:
        return " ".join(self._chance.choices(_WORDS, k=self._chance.randrange(1, 30)))

    def _said(self) -> list[dict[str, str]]:
        return [{"role": "user", "content": self._text()}]


def _decoded(told: bytes) -> dict[str, Any]:
    try:
        value = json.loads(told)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
