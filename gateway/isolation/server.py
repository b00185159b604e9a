"""The host's side of the border: one engine, and any number of connections with any number of calls each."""

import asyncio
import logging
import socket
from contextlib import aclosing
from typing import cast

from msgspec import Struct

from gateway.engine import Engine, EngineError, GenerateRequest, Health, Status, Unavailable
from gateway.isolation.wire import (
    AnyReply,
    AskStatus,
    Call,
    Cancel,
    CountReply,
    CountTokens,
    Detokenize,
    Embed,
    Embedded,
    Ended,
    EngineLoaded,
    Failure,
    Frames,
    Generate,
    Heartbeat,
    LoadError,
    MalformedFrame,
    Question,
    Render,
    Reply,
    ReplyBatch,
    StatusReply,
    TextReply,
    Tokenize,
    Tokenized,
    Unsendable,
    pack,
    read_call,
    to_failure,
)
from gateway.linux import peer_is_this_user

_log = logging.getLogger(__name__)
_BUG = Failure(EngineError.code, "the engine failed; the log says why")


class EngineServer:
    """Serves one engine to this user's processes; until `open`, connections wait for the word that it is loaded."""

    def __init__(self, beat_seconds: float) -> None:
        self.beat_seconds = beat_seconds
        self.engine: Engine | None = None
        self.lines: set[_ServerConnection] = set()
        self.word: EngineLoaded | LoadError | None = None
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
        """Serve `engine`, which is entered, and say so."""
        self.engine = engine
        self._say(EngineLoaded(tuple(engine.models())))

    def refuse(self, error: EngineError) -> None:
        """Say that the engine can never be entered."""
        self._say(LoadError(to_failure(error)))

    async def close(self) -> None:
        """Take no more connections, end every call, and hang up."""
        if self._listener is not None:
            self._listener.close()
        await asyncio.gather(*[line.close() for line in self.lines])

    def _say(self, word: EngineLoaded | LoadError) -> None:
        self.word = word
        for line in self.lines:
            line.send(word)


class _ServerConnection(asyncio.Protocol):
    """One connection: reads demands, runs each call as a task, writes what they post once a turn of the loop."""

    def __init__(self, server: EngineServer) -> None:
        self._server = server
        self._frames = Frames()
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._outbox: list[tuple[int, Reply]] = []
        self._letters = 0
        self._writable = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._beats: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        line = cast("asyncio.Transport", transport)
        if not peer_is_this_user(line.get_extra_info("socket")):
            _log.warning("a connection from another user was refused")
            line.abort()
            return
        self._transport = line
        self._writable.set()
        self._server.lines.add(self)
        self._beats = asyncio.create_task(self._beat())
        if self._server.word is not None:
            self.send(self._server.word)

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        try:
            for body in self._frames.feed(data):
                self._take(read_call(body))
        except MalformedFrame as error:
            _log.error("a connection was closed, for it sent what is no demand: %s", error)
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._server.lines.discard(self)
        if self._beats is not None:
            self._beats.cancel()
        for task in self._calls.values():
            task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def send(self, report: Struct) -> None:
        """Write one frame, unless nobody is there."""
        if self._transport is not None:
            self._transport.write(pack(report))

    async def close(self) -> None:
        """End every call, write what they had to say, and hang up."""
        tasks = list(self._calls.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _take(self, demand: Call) -> None:
        if isinstance(demand, Cancel):
            if task := self._calls.get(demand.call):
                task.cancel()
            return
        if demand.call in self._calls:
            raise MalformedFrame(f"the call {demand.call} runs already")
        self._calls[demand.call] = asyncio.create_task(self._run(demand))

    async def _run(self, demand: Generate | Question) -> None:
        """Do what was asked for; whatever an engine may raise goes back as a failure of this call alone."""
        call = demand.call
        try:
            engine = self._server.entered()
            if isinstance(demand, Generate):
                await self._generate(engine, call, demand.request)
            else:
                self._post(call, await _reply(engine, demand))
        except EngineError as error:
            self._post(call, to_failure(error))
        except Exception:  # noqa: BLE001 - whatever a plugin may raise
            _log.exception("the engine raised what no engine may raise")
            self._post(call, _BUG)
        finally:
            self._calls.pop(call, None)

    async def _generate(self, engine: Engine, call: int, request: GenerateRequest) -> None:
        async with aclosing(engine.generate(request)) as events:
            async for event in events:
                self._post(call, event)
                if not self._writable.is_set():
                    await self._writable.wait()
        self._post(call, Ended())

    def _post(self, call: int, letter: Reply) -> None:
        """Write the letter with all others of this turn: the tasks that one step of the engine woke run before it."""
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.append((call, letter))

    def _flush(self) -> None:
        letters, self._outbox = self._outbox, []
        if not letters or self._transport is None:
            return
        self._letters += sum(type(letter) is not StatusReply for _, letter in letters)
        try:
            frame = pack(ReplyBatch(letters))
        except Unsendable:
            frame = b"".join([self._pack_alone(call, letter) for call, letter in letters])
        self._transport.write(frame)

    def _pack_alone(self, call: int, letter: Reply) -> bytes:
        """Make a frame of one letter; one that cannot be sent ends its call, and no other."""
        try:
            return pack(ReplyBatch([(call, letter)]))
        except Unsendable as error:
            _log.error("the engine said what cannot be sent: %s", error)
            if task := self._calls.get(call):
                task.cancel()
            return pack(ReplyBatch([(call, _BUG)]))

    async def _beat(self) -> None:
        """Say over and over that the process lives, and whether it gets on."""
        while True:
            await asyncio.sleep(self._server.beat_seconds)
            engine = self._server.engine
            if engine is not None and self._writable.is_set():
                status = await _status(engine)
                self.send(Heartbeat(len(self._calls), self._letters, status))


async def _reply(engine: Engine, question: Question) -> AnyReply:
    match question:
        case Embed(request=request):
            return Embedded(await engine.embed(request))
        case CountTokens(model=model, prompt=prompt):
            return CountReply(await engine.count_tokens(model, prompt))
        case Tokenize(model=model, prompt=prompt):
            return Tokenized(await engine.tokenize(model, prompt))
        case Detokenize(model=model, ids=ids):
            return TextReply(await engine.detokenize(model, ids))
        case Render(model=model, chat=chat):
            return TextReply((await engine.render(model, chat),))
        case AskStatus():
            return StatusReply(await _status(engine))


async def _status(engine: Engine) -> Status:
    try:
        return await engine.status()
    except Exception:  # noqa: BLE001 - whatever a plugin may raise
        _log.exception("the engine cannot say how it is")
        return Status(health=Health.FAILED, detail="the engine does not say how it is")
