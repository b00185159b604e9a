"""The frames of one stream on their way out: those that follow each other closely go in one write.

A write takes longer than all else that is done for a frame of some words.
"""

import asyncio
import time

from litestar.types import Send

# The role and the first word of an answer, and what comes before them, go at once.
_AT_ONCE = 4
# Frames of one write at most: more of them save nothing.
_MOST = 64


class FrameWriter:
    """Writes frames in their order, as they are. One that comes `seconds` or more after the last write goes at once.

    Others wait for that moment, for the end or for the most of one write. `steps` is odd while a write is on its way,
    and counts on with each.
    """

    def __init__(self, send: Send, seconds: float) -> None:
        self.steps = 0
        self._send = send
        self._seconds = seconds
        self._held: list[bytes] = []
        self._left_at_once = _AT_ONCE
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._late: asyncio.Task[None] | None = None

    @property
    def _is_writing(self) -> bool:
        return self.steps % 2 == 1 or (self._late is not None and not self._late.done())

    async def write(self, frame: bytes) -> None:
        """Take a frame; return once it may be followed by the next."""
        wait = self._due - time.monotonic()
        self._left_at_once -= 1
        if self._held or self._late is not None:
            self._held.append(frame)
            if wait <= 0 or len(self._held) >= _MOST:
                await self._settle()
                if self._held:
                    await self._put(more_body=True)
        elif wait <= 0 or self._left_at_once >= 0:  # with no further call: most frames of most streams
            self.steps += 1
            await self._send({"type": "http.response.body", "body": frame, "more_body": True})
            self.steps += 1
            self._due = time.monotonic() + self._seconds
        else:
            self._held.append(frame)
        if self._held and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait, self._look)

    def interject(self, frame: bytes) -> None:
        """Write a frame beside the others' order, unless one is on its way."""
        if not self._is_writing:
            self._held.append(frame)
            self._late = asyncio.create_task(self._put(more_body=True))

    async def end(self) -> None:
        """Write what waits, and that it is the last."""
        await self._settle()
        await self._put(more_body=False)

    def drop(self) -> None:
        """Write nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._late is not None:
            self._late.cancel()
            self._late.add_done_callback(lambda late: late.cancelled() or late.exception())

    def _look(self) -> None:
        """Write what waits, if it is time: the last write may have been meanwhile."""
        self._timer = None
        if not self._held:
            return
        wait = self._seconds if self._is_writing else self._due - time.monotonic()
        if wait > 0:
            self._timer = asyncio.get_running_loop().call_later(wait, self._look)
        else:
            self._late = asyncio.create_task(self._put(more_body=True))

    async def _settle(self) -> None:
        """Wait for a write that was begun beside the stream; raise its error."""
        if self._late is not None:
            late, self._late = self._late, None
            await late

    async def _put(self, *, more_body: bool) -> None:
        body = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held.clear()
        self.steps += 1
        await self._send({"type": "http.response.body", "body": body, "more_body": more_body})
        self.steps += 1
        self._due = time.monotonic() + self._seconds
