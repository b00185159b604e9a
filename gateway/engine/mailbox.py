"""Events from an engine's thread to one async reader, joined when it lags.

An engine's thread posts once a step for the whole batch (`Post.send`): one wake-up of the event loop whatever the
number of sequences. A reader that fell behind finds its deltas joined into one, so its backlog costs one event.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Sequence
from typing import cast

from gateway.engine.events import Delta, GenerateEvent, TokenDelta, ToolDelta

_PIECES = (Delta, ToolDelta)


class Mailbox:
    """One reader's events, in order. `put` and `get` run on the event loop's thread."""

    def __init__(self) -> None:
        self._letters: deque[GenerateEvent | BaseException] = deque()
        self._reader: asyncio.Future[None] | None = None

    def put(self, letter: GenerateEvent | BaseException) -> None:
        """Add an event, or the error that ends the stream."""
        self._letters.append(letter)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> GenerateEvent:
        """Return the next event, joined with those behind it that go on with it; raise an error that was put."""
        while not self._letters:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        letter = self._letters.popleft()
        if isinstance(letter, BaseException):
            try:
                raise letter
            finally:
                del letter  # its traceback holds this frame, and the frames above hold the request
        return self._join(letter) if self._letters and isinstance(letter, _PIECES) else letter

    async def get_run(self) -> list[GenerateEvent]:
        """Return all events that are there, one at least, joined as by `get`; an error is raised by the next call."""
        run = [await self.get()]
        while self._letters and not isinstance(self._letters[0], BaseException):
            run.append(await self.get())
        return run

    def _join(self, first: Delta | ToolDelta) -> Delta | ToolDelta:
        run = [first]
        while self._letters and (following := continued(run, self._letters[0])) is not None:
            run.append(following)
            self._letters.popleft()
        return join_run(run)


class Post:
    """Carries letters from an engine's thread to mailboxes on `loop`; safe to call from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def send(self, letters: list[tuple[Mailbox, GenerateEvent | BaseException]]) -> None:
        """Deliver one step's letters with one wake-up; a loop that is closed has no readers left."""
        if letters:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_deliver, letters)


def continued(run: Sequence[Delta | ToolDelta], event: object) -> Delta | ToolDelta | None:
    """Return the event where it can be joined to the run before it; else None.

    A piece of a call goes on with that call, a delta with deltas. In one delta a thought comes before a text, so a
    thought behind a text begins another.
    """
    if isinstance(event, ToolDelta):
        return event if isinstance(run[-1], ToolDelta) and run[-1].index == event.index else None
    if not isinstance(event, Delta) or not isinstance(run[-1], Delta):
        return None
    if event.reasoning:
        told = (delta for delta in reversed(run) if isinstance(delta, Delta) and (delta.text or delta.reasoning))
        last = next(told, None)
        return None if last is not None and last.text else event
    return event


def join_run(run: Sequence[Delta | ToolDelta]) -> Delta | ToolDelta:
    """Join a run, of which each event was `continued`, into one event that says the same."""
    first = run[0]
    if len(run) == 1:
        return first
    if isinstance(first, Delta):
        return join(cast("Sequence[Delta]", run))
    pieces = cast("Sequence[ToolDelta]", run)
    arguments = "".join([piece.arguments for piece in pieces])
    return ToolDelta(first.index, arguments, first.id, first.name, sum([piece.tokens for piece in pieces]))


def join(run: Iterable[Delta]) -> Delta:
    """Join neighbouring deltas into one that says the same."""
    deltas = list(run)
    joined = Delta(
        text="".join([delta.text for delta in deltas]),
        tokens=sum([delta.tokens for delta in deltas]),
        reasoning="".join([delta.reasoning for delta in deltas]),
        logprobs=tuple([item for delta in deltas for item in delta.logprobs]),
    )
    telling = [delta for delta in deltas if type(delta) is TokenDelta]
    if not telling:
        return joined
    ids = tuple(token for delta in telling for token in delta.ids)
    return TokenDelta(joined.text, joined.tokens, joined.reasoning, joined.logprobs, ids)


def _deliver(letters: list[tuple[Mailbox, GenerateEvent | BaseException]]) -> None:
    for mailbox, letter in letters:
        mailbox.put(letter)
