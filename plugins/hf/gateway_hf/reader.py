"""Read texts in threads of their own: the short ones never wait for the long ones."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from gateway.engine import (
    Chat,
    Completion,
    ComputeMark,
    Overloaded,
    Prompt,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    compute_mark,
)

T = TypeVar("T")

# Bytes of a text that is read in less than a tenth of a second, whatever it says.
_SHORT = 1 << 14
# What may wait in one lane: reads, and bytes.
_MOST_READS = 4_096
_MOST_BYTES = 1 << 28
# Bytes in UTF-8 of a character that may not be ASCII, and of a token, as near as it matters here.
_CHARACTER = 3
_TOKEN = 4


class Reader:
    """Two threads, one for short texts and one for long ones, each with its queue: first come, first served.

    `on_read` is called after each, in whatever thread.
    """

    def __init__(self, on_read: Callable[[], None] = lambda: None) -> None:
        self._short, self._long = _Lane("hf-reader", on_read), _Lane("hf-reader-long", on_read)

    async def read(self, job: Callable[[], T], size: int) -> T:
        """Run `job`, which reads about `size` bytes; raise `Overloaded` where too much waits already.

        A caller that leaves takes its job out of the queue; one that has begun is brought to its end.
        """
        return await (self._short if size <= _SHORT else self._long).run(job, size)

    def close(self) -> None:
        """Wait for what is being read, and end the threads."""
        self._short.close()
        self._long.close()


class _Lane:
    """One thread, and the jobs that wait for it; one that leaves is forgotten at once, with its text."""

    def __init__(self, name: str, on_read: Callable[[], None]) -> None:
        self._on_read = on_read
        self._thread = ThreadPoolExecutor(1, name)
        self._turn = asyncio.Lock()
        self._reads = 0
        self._bytes = 0

    async def run(self, job: Callable[[], T], size: int) -> T:
        if self._reads >= _MOST_READS or (self._reads and self._bytes + size > _MOST_BYTES):
            raise Overloaded("too much text waits to be read by this model")
        self._reads += 1
        self._bytes += size
        try:
            await self._turn.acquire()
        finally:
            self._reads -= 1
            self._bytes -= size
        reading = self._thread.submit(_marked, compute_mark(), job)
        # Not when the caller leaves: the thread is free when the job has ended.
        reading.add_done_callback(partial(self._next, asyncio.get_running_loop()))
        return await asyncio.wrap_future(reading)

    def close(self) -> None:
        self._thread.shutdown()

    def _next(self, loop: asyncio.AbstractEventLoop, _: object) -> None:
        self._on_read()
        loop.call_soon_threadsafe(self._turn.release)


def _marked(mark: ComputeMark, job: Callable[[], T]) -> T:
    with mark:
        return job()


def size_of(prompt: Prompt) -> int:
    """Return about how many bytes a prompt has."""
    match prompt:
        case Completion(text):
            return _bytes(text)
        case Chat():
            parts = [part for turn in prompt.messages for part in turn.parts]
            texts = [part.text for part in parts if isinstance(part, Text | Thought | ToolResult)]
            texts += [part.arguments for part in parts if isinstance(part, ToolCall)]
            texts += [str(value) for value in (prompt.template_arguments, prompt.tools) if value]
            return sum(map(_bytes, texts))
        case _:
            return size_of_ids(len(prompt.ids))


def size_of_ids(count: int) -> int:
    """Return about how many bytes of text so many tokens are."""
    return _TOKEN * count


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else _CHARACTER * len(text)
