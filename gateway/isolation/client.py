"""The gateway's side of the border: an `Engine` whose work is done in another process."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Self, TypeVar, cast

from gateway.engine import (
    Chat,
    Embeddings,
    EmbedRequest,
    Engine,
    EngineError,
    EngineRestarted,
    Finished,
    GenerateEvent,
    GenerateRequest,
    Health,
    InvalidRequest,
    Mailbox,
    ModelCard,
    Prompt,
    Status,
    Unavailable,
    UpstreamFailed,
)
from gateway.isolation.wire import (
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
    Message,
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
    read_message,
    to_error,
)

R = TypeVar("R", Embedded, CountReply, Tokenized, TextReply, StatusReply)
_BUFFER_BYTES = 2**16
_LOST = "the engine's process has ended"


class ConnectionLost(Unavailable):
    """The connection was lost before the call had an answer; another process may serve it."""


class _StreamEnd(Exception):
    """The generator on the other side has ended."""


class RemoteEngine(Engine):
    """The engine that an `EngineServer` serves at a socket; leaving hangs up, which ends what was asked here."""

    def __init__(self, path: str, on_lost: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._line = _ClientConnection(on_lost)
        self._numbers = itertools.count(1)

    @property
    def progress(self) -> int:
        """A number that stands still only while the process is silent, or has calls and does not get on."""
        return self._line.progress

    @property
    def health(self) -> Health:
        """What the engine behind last said of itself unasked."""
        return self._line.health

    @property
    def served(self) -> int:
        """How many answers came to their end."""
        return self._line.served

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone, or was never there."""
        return self._line.transport is None

    async def lost(self) -> None:
        """Wait until the connection is gone."""
        await self._line.gone.wait()

    async def connect(self) -> None:
        """Connect; the server need not be serving yet, only listening."""
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self._line, self._path)
        except OSError as error:
            raise ConnectionLost(_LOST) from error

    async def __aenter__(self) -> Self:
        """Wait until the engine behind is entered; raise what it raised, or `ConnectionLost` when its process ended."""
        if self.is_lost:
            await self.connect()
        await self._line.settled.wait()
        if self._line.broken is not None:
            raise to_error(self._line.broken)
        if self._line.cards is None:
            raise ConnectionLost(_LOST)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._line.transport is not None:
            self._line.transport.close()
            await self._line.gone.wait()

    def models(self) -> Sequence[ModelCard]:
        """Say what the engine behind served when it was entered."""
        return self._line.cards or ()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Ask the other process; raise `ConnectionLost` when it ends before `Started`, `EngineRestarted` after that."""
        line, call, mailbox = self._line, next(self._numbers), Mailbox()
        line.begin(Generate(call, request), mailbox)
        has_started = has_finished = False
        try:
            while True:
                event = await mailbox.get()
                has_started = True
                has_finished = type(event) is Finished
                yield event
        except _StreamEnd:
            return
        except ConnectionLost as error:
            if has_finished:
                return
            if has_started:
                raise EngineRestarted(f"{_LOST} before the answer was finished") from error
            raise
        finally:
            line.end(call)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Ask the other process."""
        return (await self._ask(Embed(next(self._numbers), request), Embedded)).embeddings

    async def count_tokens(self, model: str, prompt: Prompt) -> int:
        """Ask the other process."""
        return (await self._ask(CountTokens(next(self._numbers), model, prompt), CountReply)).tokens

    async def tokenize(self, model: str, prompt: Prompt) -> tuple[int, ...]:
        """Ask the other process."""
        return (await self._ask(Tokenize(next(self._numbers), model, prompt), Tokenized)).ids

    async def detokenize(self, model: str, ids: Sequence[int]) -> tuple[str, ...]:
        """Ask the other process."""
        return (await self._ask(Detokenize(next(self._numbers), model, tuple(ids)), TextReply)).pieces

    async def render(self, model: str, chat: Chat) -> str:
        """Ask the other process."""
        return "".join((await self._ask(Render(next(self._numbers), model, chat), TextReply)).pieces)

    async def status(self) -> Status:
        """Ask the other process; it may not answer while it hangs."""
        try:
            return (await self._ask(AskStatus(next(self._numbers)), StatusReply)).status
        except EngineError as error:
            return Status(health=Health.FAILED, detail=error.message)

    async def _ask(self, demand: Question, kind: type[R]) -> R:
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._line.begin(demand, answer)
        try:
            letter = await answer
        finally:
            self._line.end(demand.call)
        if not isinstance(letter, kind):
            raise UpstreamFailed(f"the engine's process answered with a {type(letter).__name__}")
        return letter


class _ClientConnection(asyncio.BufferedProtocol):
    """The connection: writes demands, and hands each letter to its call. It never waits for a reader.

    It reads into one buffer of its own: a plain `Protocol` gets a new one of 256 KiB each time, at some 50 µs a frame.
    """

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self.transport: asyncio.Transport | None = None
        self.cards: tuple[ModelCard, ...] | None = None
        self.broken: Failure | None = None
        self.settled = asyncio.Event()
        self.gone = asyncio.Event()
        self.progress = 0
        self.served = 0
        self.health = Health.READY
        self._on_lost = on_lost
        self._frames = Frames()
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._moved = (0, 0)
        self._readers: dict[int, Mailbox | asyncio.Future[Reply]] = {}

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

    def begin(self, demand: Generate | Question, reader: Mailbox | asyncio.Future[Reply]) -> None:
        """Send a demand whose letters go to `reader`; raise `ConnectionLost` or `InvalidRequest`."""
        self._send(demand)
        self._readers[demand.call] = reader

    def end(self, call: int) -> None:
        """Expect nothing more for this call; cancel it where it has not ended."""
        if self._readers.pop(call, None) is not None and self.transport is not None:
            self._send(Cancel(call))

    def _send(self, demand: Call) -> None:
        if self.transport is None:
            raise ConnectionLost(_LOST)
        try:
            self.transport.write(pack(demand))
        except Unsendable as error:
            raise InvalidRequest(f"the request cannot be handed to the engine: {error}") from error

    def _take(self, report: Message) -> None:
        match report:
            case ReplyBatch(letters):
                for call, letter in letters:
                    if (reader := self._readers.get(call)) is not None:
                        self._deliver(call, reader, letter)
            case Heartbeat():
                # Who comes and goes is no progress: a line grows before an engine that hangs, too.
                moved = (report.letters, report.status.cache_used)
                self.progress += report.calls == 0 or moved != self._moved
                self._moved, self.health = moved, report.status.health
            case EngineLoaded(cards):
                self.cards = cards
                self.settled.set()
            case LoadError(failure):
                self.broken = failure
                self.settled.set()

    def _deliver(self, call: int, reader: Mailbox | asyncio.Future[Reply], letter: Reply) -> None:
        match letter:
            case Failure():
                del self._readers[call]
                _fail(reader, to_error(letter))
            case Ended():
                del self._readers[call]
                self.served += 1
                _fail(reader, _StreamEnd())
            case Embedded() | CountReply() | Tokenized() | TextReply() | StatusReply():
                del self._readers[call]
                if isinstance(reader, asyncio.Future) and not reader.done():
                    reader.set_result(letter)
            case _ if isinstance(reader, Mailbox):
                reader.put(letter)


def _fail(reader: Mailbox | asyncio.Future[Reply], error: Exception) -> None:
    if isinstance(reader, Mailbox):
        reader.put(error)
    elif not reader.done():
        reader.set_exception(error)
