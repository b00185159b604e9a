"""The gateway's side of the border: an `Engine` whose work is done in another process."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Self, cast

from msgspec import Raw

from gateway.engine import (
    Ended,
    EngineError,
    EngineMethod,
    EngineRestarted,
    Failure,
    Finished,
    ForwardingEngine,
    GenerateEvent,
    GenerateRequest,
    Health,
    InvalidRequest,
    Mailbox,
    MalformedFrame,
    ModelCard,
    Result,
    Status,
    Unavailable,
    Unsendable,
    UpstreamFailed,
    to_error,
    to_raw,
)
from gateway.isolation.pulse import Pulse
from gateway.isolation.scores import join_start
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
    read_message,
)

_BUFFER_BYTES = 2**16
_LOST = "the engine's process has ended"

_Reader = Mailbox | asyncio.Future[Raw]


class ConnectionLost(Unavailable):
    """The connection was lost before the call had an answer; another process may serve it."""


class _StreamEnd(Exception):
    """The generator on the other side has ended."""


class RemoteEngine(ForwardingEngine):
    """The engine that an `EngineServer` serves at a socket; leaving hangs up, which ends what was asked here."""

    def __init__(self, path: str, on_lost: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._connection = _ClientConnection(on_lost)
        self._numbers = itertools.count(1)

    @property
    def progress(self) -> int:
        """A number that stands still only while the process is silent, or has calls and does not get on."""
        return self._connection.pulse.progress

    @property
    def health(self) -> Health:
        """The health of the engine behind, as of the last heartbeat."""
        return self._connection.pulse.health

    @property
    def served(self) -> int:
        """The number of answers that came to their end."""
        return self._connection.served

    @property
    def pulse(self) -> Pulse:
        """What its heartbeats say, and its load before them."""
        return self._connection.pulse

    @property
    def arrived(self) -> frozenset[int]:
        """The calls that the process has read and not answered."""
        return frozenset(self._connection.arrived)

    def number(self) -> int:
        """Return the number of the next call."""
        return next(self._numbers)

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone, or was never there."""
        return self._connection.transport is None

    async def lost(self) -> None:
        """Wait until the connection is gone."""
        await self._connection.gone.wait()

    async def connect(self) -> None:
        """Connect; the server need not be serving yet, only listening.

        Raises `ConnectionLost` where no process listens, `OSError` where this one cannot connect, as for want of
        descriptors.
        """
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self._connection, self._path)
        except (ConnectionError, FileNotFoundError) as error:
            raise ConnectionLost(_LOST) from error

    async def __aenter__(self) -> Self:
        """Wait until the engine behind is entered; raise what it raised, or `ConnectionLost` when its process ended."""
        if self.is_lost:
            await self.connect()
        await self._connection.settled.wait()
        if self._connection.failure is not None:
            raise to_error(self._connection.failure)
        if self._connection.cards is None:
            raise ConnectionLost(_LOST)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection.transport is not None:
            self._connection.transport.close()
            await self._connection.gone.wait()

    def models(self) -> Sequence[ModelCard]:
        """Return the cards of the engine behind, as of when it was entered."""
        return self._connection.cards or ()

    async def generate(
        self, request: GenerateRequest, number: int | None = None
    ) -> AsyncGenerator[GenerateEvent, None]:
        """Ask the other process; raise `ConnectionLost` when it ends before `Started`, `EngineRestarted` after that."""
        number, mailbox = self.number() if number is None else number, Mailbox()
        self._connection.begin(Generate(number, request), mailbox)
        has_started = has_finished = False
        try:
            event = await join_start(mailbox)
            while True:
                has_started = True
                has_finished = type(event) is Finished
                yield event
                event = await mailbox.get()
        except _StreamEnd:
            return
        except ConnectionLost as error:
            if has_finished:
                return
            if has_started:
                raise EngineRestarted(f"{_LOST} before the answer was finished") from error
            raise
        finally:
            self._connection.end(number)

    async def ask(self, method: EngineMethod, arguments: tuple[object, ...], number: int | None = None) -> object:
        """Ask the other process."""
        number, answer = self.number() if number is None else number, asyncio.get_running_loop().create_future()
        try:
            call = Question(number, method.name, to_raw(arguments))
        except Unsendable as error:
            raise _unsendable(error) from error
        self._connection.begin(call, answer)
        try:
            return method.read_result(await answer)
        except (MalformedFrame, _StreamEnd) as error:
            raise UpstreamFailed(f"the engine's process gave no answer to {method.name!r}") from error
        finally:
            del answer  # it keeps its error, whose traceback holds this frame
            self._connection.end(number)

    async def status(self) -> Status:
        """Ask the other process; it may not answer while it hangs."""
        try:
            return await super().status()
        except EngineError as error:
            return Status(health=Health.FAILED, detail=error.message)


class _ClientConnection(asyncio.BufferedProtocol):
    """The connection: writes calls, and hands each reply to the reader of its call, for which it never waits.

    It reads into one buffer of its own: a plain `Protocol` gets a new one of 256 KiB each time, at some 50 µs a frame.
    """

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self.transport: asyncio.Transport | None = None
        self.cards: tuple[ModelCard, ...] | None = None
        self.failure: Failure | None = None
        self.settled = asyncio.Event()
        self.gone = asyncio.Event()
        self.pulse = Pulse()
        self.served = 0
        self._on_lost = on_lost
        self._frames = Frames()
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._readers: dict[int, _Reader] = {}
        self.arrived: set[int] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for body in self._frames.feed(self._buffer[:nbytes]):
                self._take(read_message(body))
        except MalformedFrame:
            if self.transport is not None:
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.transport = None
        self.settled.set()
        self.gone.set()
        self._on_lost()
        for reader in self._readers.values():
            _fail(reader, ConnectionLost(_LOST))

    def begin(self, call: Generate | Question, reader: _Reader) -> None:
        """Send a call whose replies go to `reader`; raise `ConnectionLost` or `InvalidRequest`."""
        self._send(call)
        self._readers[call.number] = reader

    def end(self, number: int) -> None:
        """Expect nothing more for this call; cancel it where it has not ended."""
        self.arrived.discard(number)
        if self._readers.pop(number, None) is not None and self.transport is not None:
            self._send(Cancel(number))

    def _send(self, call: Call) -> None:
        if self.transport is None:
            raise ConnectionLost(_LOST)
        try:
            self.transport.write(pack(call))
        except Unsendable as error:
            raise _unsendable(error) from error

    def _take(self, message: ServerMessage) -> None:
        match message:
            case ReplyBatch(replies):
                for number, reply in replies:
                    if (reader := self._readers.get(number)) is not None:
                        self._deliver(number, reader, reply)
            case Arrived(numbers):
                self.arrived.update(self._readers.keys() & numbers)
            case Heartbeat():
                self.pulse.take(message)
            case LoadStep():
                self.pulse.step = message.step, message.share
            case EngineLoaded(cards):
                self.cards = cards
                self.settled.set()
            case LoadError(failure):
                self.failure = failure
                self.settled.set()

    def _deliver(self, number: int, reader: _Reader, reply: Reply) -> None:
        match reply:
            case Failure():
                del self._readers[number]
                _fail(reader, to_error(reply))
            case Ended():
                del self._readers[number]
                self.served += 1
                _fail(reader, _StreamEnd())
            case Result(value):
                del self._readers[number]
                if isinstance(reader, asyncio.Future) and not reader.done():
                    reader.set_result(value)
            case _ if isinstance(reader, Mailbox):
                reader.put(reply)  # type: ignore[arg-type] # scores too, which `join_start` takes out


def _unsendable(error: Unsendable) -> InvalidRequest:
    return InvalidRequest(f"the request cannot be handed to the engine: {error}")


def _fail(reader: _Reader, error: Exception) -> None:
    if isinstance(reader, Mailbox):
        reader.put(error)
    elif not reader.done():
        reader.set_exception(error)
