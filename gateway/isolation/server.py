"""The host's side of the border: one engine, and any number of connections with any number of calls each."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import cast

from gateway.engine import (
    ComputeMark,
    Ended,
    Engine,
    EngineError,
    EngineMethod,
    GenerateRequest,
    Health,
    MalformedFrame,
    Result,
    Started,
    Status,
    Unavailable,
    Unsendable,
    begin_call,
    failure_of,
    find_method,
    to_failure,
    to_raw,
)
from gateway.engine.border import BUG
from gateway.flow.tasks import is_cancelled
from gateway.isolation.scores import ScoreSender
from gateway.isolation.wire import (
    Arrived,
    Call,
    Cancel,
    EngineLoaded,
    Frames,
    Generate,
    Heartbeat,
    LoadError,
    LoadStep,
    Question,
    Reply,
    ReplyBatch,
    ServerMessage,
    pack,
    read_call,
)
from gateway.linux import peer_is_this_user

_log = logging.getLogger(__name__)


class EngineServer:
    """Serves one engine to this user's processes; connections that come early wait for the outcome of its load."""

    def __init__(self, beat_seconds: float) -> None:
        self.beat_seconds = beat_seconds
        self.engine: Engine | None = None
        self.outcome: EngineLoaded | LoadError | None = None
        self.step: LoadStep | None = None
        self.connections: set[_ServerConnection] = set()
        self._listener: asyncio.AbstractServer | None = None

    async def listen(self, listener: socket.socket) -> None:
        """Take connections from a Unix socket that is bound and listening."""
        self._listener = await asyncio.get_running_loop().create_unix_server(
            lambda: _ServerConnection(self), sock=listener
        )

    def entered(self) -> Engine:
        """Return the engine; raise `Unavailable` while there is none."""
        if self.engine is None:
            raise Unavailable("the model is loading")
        return self.engine

    def open(self, engine: Engine) -> None:
        """Serve `engine`, which is entered, and tell every connection."""
        self.engine = engine
        self._tell(EngineLoaded(tuple(engine.models())))

    def refuse(self, error: EngineError) -> None:
        """Tell every connection that the engine can never be entered."""
        self._tell(LoadError(to_failure(error)))

    def tell_step(self, step: str, share: float) -> None:
        """Tell every connection how far the load is."""
        self.step = LoadStep(step, share)
        for connection in self.connections:
            connection.send(self.step)

    async def close(self) -> None:
        """Take no more connections, end every call, and hang up."""
        if self._listener is not None:
            self._listener.close()
        await asyncio.gather(*[connection.close() for connection in self.connections])

    def _tell(self, outcome: EngineLoaded | LoadError) -> None:
        self.outcome = outcome
        for connection in self.connections:
            connection.send(outcome)


class _ServerConnection(asyncio.Protocol):
    """One connection: runs each call as a task, and writes the replies of a turn of the loop in one frame."""

    def __init__(self, server: EngineServer) -> None:
        self._server = server
        self._frames = Frames()
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._marks: dict[int, ComputeMark] = {}
        self._outbox: list[tuple[int, Reply]] = []
        self._progress = 0
        self._answers = 0
        self._idle_replies = 0
        self._writable = asyncio.Event()
        self._scores = ScoreSender(self._post, self._writable)
        self._transport: asyncio.Transport | None = None
        self._beats: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        accepted = cast("asyncio.Transport", transport)
        if not peer_is_this_user(accepted.get_extra_info("socket")):
            _log.warning("a connection from another user was refused")
            accepted.abort()
            return
        self._transport = accepted
        self._writable.set()
        self._server.connections.add(self)
        self._beats = asyncio.create_task(self._beat())
        if (first := self._server.outcome or self._server.step) is not None:
            self.send(first)

    def data_received(self, data: bytes) -> None:
        try:
            calls = [read_call(body) for body in self._frames.feed(data)]
        except MalformedFrame as error:
            self._hang_up(error)
            return
        if begun := tuple(call.number for call in calls if not isinstance(call, Cancel)):
            self.send(Arrived(begun))
        # A turn later: uvloop writes at the end of a turn, and a call may hold this thread for ever.
        asyncio.get_running_loop().call_soon(self._begin, calls)

    def _begin(self, calls: Iterable[Call]) -> None:
        try:
            for call in calls:
                self._take(call)
        except MalformedFrame as error:
            self._hang_up(error)

    def _hang_up(self, error: MalformedFrame) -> None:
        _log.error("a connection was closed, for it sent what is no call: %s", error)
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._server.connections.discard(self)
        if self._beats is not None:
            self._beats.cancel()
        for task in self._calls.values():
            task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def send(self, message: ServerMessage) -> None:
        """Write one frame, unless the connection is gone."""
        if self._transport is not None:
            self._transport.write(pack(message))

    async def close(self) -> None:
        """End every call, write the replies that wait, and hang up."""
        tasks = list(self._calls.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _take(self, call: Call) -> None:
        if self._transport is None:
            return
        if isinstance(call, Cancel):
            if task := self._calls.get(call.number):
                task.cancel()
            return
        if call.number in self._calls:
            raise MalformedFrame(f"the call {call.number} runs already")
        if isinstance(call, Generate):
            work = partial(self._generate, call.number, call.request)
        else:
            method = find_method(call.method)
            work = partial(self._ask, method, method.read_arguments(call.arguments))
        task = self._calls[call.number] = asyncio.create_task(self._run(call, work))
        # Not in the task: one that is cancelled before its first step runs nothing, and would count as a call for ever.
        task.add_done_callback(lambda _: self._calls.pop(call.number, None))

    async def _run(self, call: Generate | Question, work: Callable[[], Awaitable[Reply]]) -> None:
        """Run a call to its last reply; whatever an engine raises goes back as a failure of this call alone."""
        mark = self._marks[call.number] = begin_call()
        try:
            last = await work()
        except BaseException as error:  # a panic of a library is no `Exception`, nor is an exit
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                raise
            last = failure_of(error)
        finally:
            if not mark.is_computed:  # else its thread goes on
                del self._marks[call.number]
        self._post(call.number, last)
        # A monitor asks an engine that hangs, too, and so do others beside an answer that gets nowhere.
        self._idle_replies += isinstance(call, Question) and (call.method == "status" or self._answers > 0)

    async def _generate(self, number: int, request: GenerateRequest) -> Reply:
        self._answers += 1
        try:
            async with aclosing(self._server.entered().generate(request)) as events:
                async for event in events:
                    if type(event) is Started and event.prompt_logprobs:
                        event = await self._scores.send(number, event)  # noqa: PLW2901 - the same, without them
                    self._post(number, event)
                    if not self._writable.is_set():
                        await self._writable.wait()
        finally:
            self._answers -= 1
        return Ended()

    async def _ask(self, method: EngineMethod, arguments: tuple[object, ...]) -> Reply:
        return Result(to_raw(await method.ask(self._server.entered(), arguments)))

    def _post(self, number: int, reply: Reply) -> None:
        """Write the reply with all others of this turn: the tasks that one step of the engine woke run before it."""
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.append((number, reply))

    def _flush(self) -> None:
        replies, self._outbox = self._outbox, []
        if not replies or self._transport is None:
            return
        self._progress += len(replies) - self._idle_replies
        self._idle_replies = 0
        try:
            frame = pack(ReplyBatch(replies))
        except Unsendable:
            frame = b"".join([self._pack_alone(number, reply) for number, reply in replies])
        self._transport.write(frame)

    def _pack_alone(self, number: int, reply: Reply) -> bytes:
        """Make a frame of one reply; one that cannot be sent ends its call, and no other."""
        try:
            return pack(ReplyBatch([(number, reply)]))
        except Unsendable as error:
            _log.error("the engine said what cannot be sent: %s", error)
            if task := self._calls.get(number):
                task.cancel()
            return pack(ReplyBatch([(number, BUG)]))

    async def _beat(self) -> None:
        """Tell over and over that the process lives, and whether it gets on."""
        while True:
            await asyncio.sleep(self._server.beat_seconds)
            engine = self._server.engine
            if engine is not None and self._writable.is_set():
                status = await _status(engine)
                self.send(Heartbeat(len(self._calls), self._progress, status, self._computed()))

    def _computed(self) -> tuple[int, ...] | None:
        """List the calls that are computed, also those that were given up; `None` where the engine does not say."""
        over = [number for number in self._marks.keys() - self._calls.keys() if not self._marks[number].is_computed]
        for number in over:
            del self._marks[number]
        if not ComputeMark.are_kept:
            return None
        return tuple(number for number, mark in self._marks.items() if mark.is_computed)


async def _status(engine: Engine) -> Status:
    try:
        return await engine.status()
    except asyncio.CancelledError:
        raise
    except BaseException:  # noqa: BLE001 - whatever a plugin may raise
        _log.exception("the engine cannot say how it is")
        return Status(health=Health.FAILED, detail="the engine does not say how it is")
