"""The HTTP client: sends one request and times its answer.

aiohttp, because this client shares the machine with what it measures: 30 µs of processor time a frame here, httpx 120.
"""

import ssl
import time
from http import HTTPStatus
from typing import Self

import aiohttp

from gateway import __version__
from gateway.cli.bench.plan import Plan
from gateway.cli.bench.prompts import PromptSource
from gateway.cli.bench.sample import Sample
from gateway.cli.bench.stream import listen, refused
from gateway.cli.bench.target import BenchTarget, find

# Shorter than any server's own, so that no request meets a connection that is just being closed.
_KEPT_SECONDS = 4.0


class Client:
    """Asks one server; a context that holds the connections, as many as there are requests at a time."""

    target: BenchTarget

    def __init__(self, plan: Plan, trust: ssl.SSLContext | None = None) -> None:
        self._plan = plan
        self._trust = trust or True
        self._prompts = PromptSource(plan.seed, plan.prompt_words, plan.shared_prefix)

    async def __aenter__(self) -> Self:
        """Find the server; raise `TargetError` where there is none."""
        # A cache would answer in place of the engine that is to be measured.
        headers = {"content-type": "application/json", "cache-control": "no-store"}
        headers["user-agent"] = f"llm-gateway-bench/{__version__}"
        if self._plan.api_key:
            headers["authorization"] = f"Bearer {self._plan.api_key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_SECONDS, ssl=self._trust),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=self._plan.timeout),
        )
        try:
            self.target = await find(self._plan, self._session)
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, number: int, due: float | None = None) -> Sample:
        """Send the request of this number and read its answer; what goes wrong is in the sample."""
        plan = self._plan
        body = self.target.body(self._prompts.text(number), plan.output_tokens, plan.temperature)
        sent = time.monotonic()
        sample = Sample(due=sent if due is None else due, sent=sent)
        try:
            await self._exchange(body, sample)
        except TimeoutError:
            sample.error = "timeout"
        except aiohttp.ClientConnectorError:
            sample.error = "cannot connect"
        except aiohttp.ClientError:
            sample.error = "connection lost"
        if sample.error is not None:
            sample.ended = time.monotonic()
        return sample

    async def _exchange(self, body: bytes, sample: Sample) -> None:
        async with self._session.post(self.target.url, data=body) as answer:
            if answer.status == HTTPStatus.OK:
                await listen(answer.content, sample)
            else:
                sample.error = refused(answer.status, await answer.read())
