"""Large pieces of work on one thread beside the event loop, which goes on meanwhile."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

# Bytes that take some milliseconds to read, and to answer.
LARGE = 256 * 1024
# Items that are worked on where they are: they take some milliseconds, and the way to the thread a tenth of one.
_SMALL = 1_024

# One thread: the interpreter gives the loop its turn every few milliseconds, but not between two threads that compute.
_thread = ThreadPoolExecutor(1, "large-work")


async def offload(items: int, work: Callable[[], T]) -> T:
    """Return what `work` returns, which has so many items to make; run it in the thread where they are many."""
    return work() if items <= _SMALL else await beside(work)


async def offload_large(weight: int, work: Callable[[], T]) -> T:
    """Return what `work` returns, which has so many bytes to read; run it in the thread where they are `LARGE`."""
    return work() if weight <= LARGE else await beside(work)


async def beside(work: Callable[[], T]) -> T:
    """Return what `work` returns, which runs in the thread, one after the other."""
    return await asyncio.get_running_loop().run_in_executor(_thread, work)
