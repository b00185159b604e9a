"""A scripted server that speaks OpenAI's dialect, to be measured."""

import asyncio
import json
from dataclasses import dataclass, field

from aiohttp import web

MODEL = "parrot"


@dataclass
class Upstream:
    """Answers as it is told to, and keeps the bodies that it was sent; an async context."""

    paths: tuple[str, ...] = ("/v1/chat/completions",)
    models: tuple[str, ...] = (MODEL,)
    unknown: frozenset[str] = frozenset()  # fields that it refuses
    statuses: tuple[int, ...] = (200,)  # of the answers in their order, over and over
    tokens_per_frame: int = 1
    cached: int | None = 10
    usage: bool = True
    delay: float = 0.0
    fault: str | None = None  # "error" or "hang" after the first frame, or "cut" before the end
    bodies: list[dict] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)

    async def __aenter__(self):
        application = web.Application()
        application.router.add_get("/v1/models", self._list)
        for path in self.paths:
            application.router.add_post(path, self._answer)
        self._arrivals = asyncio.Semaphore(0)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    @property
    def measured(self) -> list[dict]:
        """The bodies but for those that only ask what the server can do."""
        return [body for body in self.bodies if len(json.dumps(body.get("messages", body.get("prompt", "")))) > 80]

    async def receives(self, requests: int) -> None:
        """Wait until this many requests are there, beside those that only ask what the server can do."""
        for _ in range(requests):
            await self._arrivals.acquire()

    async def _list(self, request):
        self.keys.add(request.headers.get("authorization"))
        if not self.models:
            return web.json_response({"error": "there is no list"}, status=404)
        return web.json_response({"data": [{"id": name} for name in self.models]})

    async def _answer(self, request):
        body = await request.json()
        if "messages" not in body and "prompt" not in body:
            return web.json_response({"error": {"message": "no prompt", "code": "missing"}}, status=400)
        known = len(self.measured)
        self.bodies.append(body)
        if len(self.measured) > known:
            self._arrivals.release()
        if refused := self.unknown & body.keys():
            return web.json_response({"error": {"message": f"unknown: {sorted(refused)}"}}, status=400)
        status = self.statuses[max(0, len(self.measured) - 1) % len(self.statuses)]
        if status != 200:
            return web.json_response({"error": {"message": "no", "code": "too_busy"}}, status=status)
        return await self._stream(request, body)

    async def _stream(self, request, body):
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        for number, frame in enumerate(self._frames(body)):
            await answer.write(b"data: " + json.dumps(frame).encode() + b"\n\n")
            if self.fault and number == 1:
                if self.fault == "hang":
                    await asyncio.sleep(60)
                if self.fault == "error":
                    await answer.write(b'data: {"error": {"message": "broken", "code": "engine_failed"}}\n\n')
                return answer
            await asyncio.sleep(self.delay)
        await answer.write(b"data: [DONE]\n\n")
        return answer

    def _frames(self, body):
        chat = "messages" in body
        if chat:
            yield {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
        tokens = body["max_tokens"]
        for begin in range(0, tokens, self.tokens_per_frame):
            text = " word" * min(self.tokens_per_frame, tokens - begin)
            yield {"choices": [{"delta": {"content": text}} if chat else {"text": text}]}
        yield {"choices": [{"delta": {}, "finish_reason": "length"}]}
        if self.usage and body.get("stream_options", {}).get("include_usage"):
            details = {} if self.cached is None else {"prompt_tokens_details": {"cached_tokens": self.cached}}
            yield {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": tokens} | details}
