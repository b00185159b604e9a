"""A replica: the hosted engine, entered, and the answers to what gateways ask it. It runs on the cluster."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import msgspec
from msgspec import Struct

from gateway.engine import (
    Ended,
    Engine,
    Failure,
    GenerateEvent,
    Health,
    Mailbox,
    Result,
    Started,
    Status,
    Unsendable,
    decode,
    encode,
    failure_of,
    find_method,
    load,
    to_raw,
)
from gateway.engine.border import BUG
from gateway_ray.runs import QUESTION, REQUEST, AskedMethod, EventRun, HostedModels, ReplicaCall, RunPace
from gateway_ray.settings import InnerEngine

_log = logging.getLogger(__name__)

# Seconds between two reports of the engine's state, which travel with the answers.
_REPORT = 0.5


class ReplicaLaunch(Struct, frozen=True, kw_only=True):
    """What a replica must know: its engine, the digest of all settings, and how long its engine may stand still."""

    engine: InnerEngine
    digest: str
    hang_seconds: float


class EngineReplica:
    """Hosts one engine. Ray Serve makes it, asks for its health, and calls its methods beside each other."""

    async def __init__(self, launch: bytes) -> None:  # type: ignore[misc] # as Ray Serve takes it too
        self._launch = msgspec.msgpack.decode(launch, type=ReplicaLaunch)
        self._name = uuid.uuid4().hex
        self._pace = RunPace()
        self._runs = 0
        self._reported = 0.0
        self._moved: tuple[object, ...] = ()
        self._moved_at = time.monotonic()
        plugin = load(self._launch.engine.plugin)
        settings = msgspec.convert(self._launch.engine.settings, plugin.settings)
        engine = await asyncio.to_thread(plugin.build, settings)
        self._engine: Engine = await engine.__aenter__()

    async def __del__(self) -> None:
        """Leave the engine; Ray Serve waits for it when it ends a replica."""
        if hasattr(self, "_engine"):
            await self._engine.__aexit__(None, None, None)

    async def describe(self, call: ReplicaCall) -> bytes:
        """Return the `HostedModels`."""
        del call
        return encode(HostedModels(self._launch.digest, tuple(self._engine.models())))

    async def check_health(self) -> None:
        """Raise where the engine failed, or has work and stands still: Ray Serve then replaces the replica."""
        status = await self._engine.status()
        if status.health is Health.FAILED:
            raise RuntimeError(f"the engine failed: {status.detail}")
        moved, now = (self._runs, status.cache_used, status.steps), time.monotonic()
        if not self._pace.answers or moved != self._moved:
            self._moved, self._moved_at = moved, now
        elif now - self._moved_at > self._launch.hang_seconds:
            raise RuntimeError(f"the engine has work, and stood still for {now - self._moved_at:.0f} s")

    async def generate(self, call: ReplicaCall) -> AsyncGenerator[bytes, None]:
        """Yield an answer as `EventRun`s; to cancel the call ends the work, and frees its place."""
        mailbox = Mailbox()
        work = asyncio.create_task(self._answer(call.body, mailbox))
        self._pace.answers += 1
        try:
            while True:
                said = cast("list[GenerateEvent | Ended | Failure]", await mailbox.get_run())
                yield await self._pack(said)
                if isinstance(said[-1], Ended | Failure):
                    return
                if not isinstance(said[-1], Started):  # the first delta follows at once
                    await self._pace.wait(work)
        finally:
            self._pace.answers -= 1
            work.cancel()
            await asyncio.wait({work})

    async def ask(self, call: ReplicaCall) -> bytes:
        """Answer an `AskedMethod` with a `Result` or a `Failure`."""
        try:
            asked: AskedMethod = decode(call.body, QUESTION)
            method = find_method(asked.method)
            return encode(Result(to_raw(await method.ask(self._engine, method.read_arguments(asked.arguments)))))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a plugin may raise
            return encode(failure_of(error))

    async def _answer(self, body: bytes, mailbox: Mailbox) -> None:
        last: Ended | Failure = Ended()
        try:
            async with aclosing(self._engine.generate(decode(body, REQUEST))) as events:
                async for event in events:
                    mailbox.put(event)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            last = failure_of(error)
        mailbox.put(cast("GenerateEvent", last))

    async def _pack(self, said: list[GenerateEvent | Ended | Failure]) -> bytes:
        self._runs += 1
        status = await self._report()
        try:
            return encode(EventRun(self._name, status, said))
        except Unsendable as error:
            _log.error("the engine said what cannot be sent: %s", error)
            said[:] = [BUG]
            return encode(EventRun(self._name, status, said))

    async def _report(self) -> Status | None:
        """Return the engine's state, where it was not told lately."""
        now = time.monotonic()
        if now - self._reported < _REPORT:
            return None
        self._reported = now
        return await self._engine.status()
