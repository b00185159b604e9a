"""The engine in the gateway's process: it asks replicas on a cluster, and asks another where one is lost."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, Self, TypeVar

from msgspec import structs
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from gateway.engine import (
    DeadlineExceeded,
    Ended,
    EngineMethod,
    EngineRestarted,
    Failure,
    ForwardingEngine,
    GenerateEvent,
    GenerateRequest,
    Health,
    InvalidRequest,
    LoadFailed,
    MalformedFrame,
    ModelCard,
    Started,
    Status,
    TimeLeft,
    Unavailable,
    Unsendable,
    UpstreamFailed,
    decode,
    encode,
    to_error,
    to_raw,
)
from gateway_ray.affinity import LEDGER, affinity
from gateway_ray.cluster import RayCluster, most
from gateway_ray.faults import FAULTS, ReplicaLost, to_engine_error
from gateway_ray.runs import LAST, MODELS, RUN, AskedMethod, EventRun, HostedModels, ReplicaCall
from gateway_ray.settings import Settings
from gateway_ray.watch import ClusterWatch

T = TypeVar("T")

# A request that was lost so often before its first token is not tried again: it may be what ends the replicas.
_LOSSES = 4
_PAUSE = 0.1
_LATE = "no replica answered in time"


class RayEngine(ForwardingEngine):
    """Any engine, hosted in replicas on a Ray cluster."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cluster = RayCluster(settings)
        self._thread: ThreadPoolExecutor | None = None
        self._handle: DeploymentHandle | None = None
        self._cards: tuple[ModelCard, ...] = ()
        self._places = 0
        self._watch = ClusterWatch(self._cluster)

    def models(self) -> Sequence[ModelCard]:
        """Return the cards of the hosted engine, with the places of all replicas."""
        return self._cards

    async def __aenter__(self) -> Self:
        """Join the cluster, and have it run what the settings say, unless it does already."""
        self._thread = ThreadPoolExecutor(1, "ray")
        left = asyncio.Event()
        try:
            await self._run(self._cluster.join)
            await self._run(lambda: self._cluster.settle(left.is_set))
            hosted = await self._hosted()
            if hosted is None or hosted.digest != self._cluster.digest:
                await self._run(lambda: self._cluster.deploy(left.is_set))
                hosted = await self._hosted()
            self._take(hosted)
        except BaseException:
            left.set()
            await self.__aexit__()
            raise
        self._watch.begin(self._run)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave the cluster, which ends where it was started here."""
        self._handle = None
        thread, self._thread = self._thread, None
        if thread is not None:
            await self._watch.end()
            try:
                await asyncio.get_running_loop().run_in_executor(thread, self._cluster.leave)
            finally:
                thread.shutdown(wait=False)

    async def status(self) -> Status:
        """Say how the application is, and what of this gateway's answers runs and waits."""
        return self._watch.status if self._handle is not None else Status(health=Health.UNLOADED)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Ask a replica; where it is lost before `Started`, ask another within the request's time."""
        time, losses = TimeLeft(request.timeout), 0
        while True:
            has_started = False
            try:
                async with aclosing(self._answer(request, time)) as events:
                    async for event in events:
                        has_started = True
                        yield event
            except ReplicaLost as error:
                losses += 1
                if has_started:
                    raise EngineRestarted("the replica was lost before the answer was finished") from error
                await _pause(losses, error)
            else:
                return

    async def ask(self, method: EngineMethod, arguments: tuple[object, ...]) -> object:
        """Ask a replica any question, and another where it is lost."""
        time, losses = TimeLeft.of(arguments), 0
        try:
            body = encode(AskedMethod(method.name, to_raw(arguments)))
        except Unsendable as error:
            raise _unsendable(error) from error
        while True:
            try:
                last = decode(await self._ask("ask", body, time), LAST)
                if isinstance(last, Failure):
                    raise to_error(last)
                return method.read_result(last.value)
            except MalformedFrame as error:
                raise UpstreamFailed(f"the replica answered {method.name!r} with what is no answer to it") from error
            except ReplicaLost as error:
                losses += 1
                await _pause(losses, error)

    async def _answer(self, request: GenerateRequest, time: TimeLeft) -> AsyncGenerator[GenerateEvent, None]:
        """Ask one replica; raise `ReplicaLost` where it is gone."""
        try:
            body = encode(structs.replace(request, timeout=time.seconds))
        except Unsendable as error:
            raise _unsendable(error) from error
        replicas = self._serving().options(stream=True, method_name="generate")
        has_ended = has_started = False
        with self._watch.counted() as counted, LEDGER.answer() as number:
            call = ReplicaCall(number, affinity(request.prompt, request.salt), self._places, body)
            response: Any = replicas.remote(call)
            try:
                while not has_ended:
                    async with contextlib.nullcontext() if has_started else time.limit(_LATE):
                        run = await _next(response)
                    self._watch.hear(run.replica, run.status)
                    for event in run.said:
                        if isinstance(event, Ended | Failure):
                            has_ended = True
                            if isinstance(event, Failure):
                                raise to_error(event)
                            return
                        if type(event) is Started:
                            has_started = True
                            counted.has_started = True
                        yield event
            finally:
                if not has_ended:
                    response.cancel()

    async def _ask(self, method: str, body: bytes, time: TimeLeft) -> bytes:
        response = self._serving().options(method_name=method).remote(ReplicaCall(0, b"", self._places, body))
        is_answered = False
        try:
            async with time.limit(_LATE):
                answer: bytes = await response
                is_answered = True
        except FAULTS as error:
            raise to_engine_error(error) from error
        finally:
            if not is_answered:
                response.cancel()
        return answer

    async def _hosted(self) -> HostedModels | None:
        """Return what runs on the cluster under the application's name; None where nothing does."""
        if not self._cluster.replicas(await self._run(self._cluster.state)):
            return None
        self._handle = await self._run(self._cluster.handle)
        with contextlib.suppress(ReplicaLost, DeadlineExceeded):
            time = TimeLeft(self._settings.connect_seconds)
            return decode(await self._ask("describe", b"", time), MODELS)
        return None

    def _take(self, hosted: HostedModels | None) -> None:
        if hosted is None or hosted.digest != self._cluster.digest:
            raise LoadFailed(f"another gateway gave the application {self._cluster.app} other settings meanwhile")
        count = most(self._settings.replicas)
        self._places = min(self._settings.ongoing, sum(card.places for card in hosted.cards))
        self._cards = tuple(
            structs.replace(card, places=card.places * count, cache_tokens=card.cache_tokens * count)
            for card in hosted.cards
        )

    def _serving(self) -> DeploymentHandle:
        if self._handle is None:
            raise Unavailable("the engine was left, or never entered")
        return self._handle

    async def _run(self, work: Callable[[], T]) -> T:
        """Run it on the thread that the cluster belongs to."""
        if self._thread is None:
            raise Unavailable("the engine was left")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


async def _pause(losses: int, error: ReplicaLost) -> None:
    """Wait before another replica is asked, for Ray to learn what is lost; raise `EngineRestarted` after too many."""
    if losses == _LOSSES:
        raise EngineRestarted(f"{losses} replicas were lost before they began to answer") from error
    await asyncio.sleep(_PAUSE * 2 ** (losses - 1))


async def _next(response: DeploymentResponseGenerator) -> EventRun:
    """Return the next run of an answer; raise `ReplicaLost` where its replica is gone, or ends it without a word."""
    try:
        return decode(await anext(response), RUN)
    except StopAsyncIteration as error:
        raise ReplicaLost("the replica ended the answer before it was finished") from error
    except MalformedFrame as error:
        raise UpstreamFailed("the replica said what is no part of an answer") from error
    except FAULTS as error:
        raise to_engine_error(error) from error


def _unsendable(error: Unsendable) -> InvalidRequest:
    return InvalidRequest(f"the request cannot be handed to the engine: {error}")
