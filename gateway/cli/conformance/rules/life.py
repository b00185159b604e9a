"""Life: clients that leave, and clients that come together."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.cli.conformance.peer import Peer
from gateway.cli.conformance.rule import Absent, expect, rule
from gateway.cli.conformance.rules.answers import PLAIN, SAID, content

TALE = "Write a very long story about the sea, with many chapters, and do not come to its end."
_LEAVING = 16
_LONG = {"temperature": 1, "max_tokens": 1_500}
_SHORT = {"temperature": 0, "max_tokens": 8}
_TIMES = 3
_PATIENCE = 5.0
# Company is told from none where it makes a short answer twice as slow, and a twentieth of a second slower.
_SLOWER, _LEAST = 2.0, 0.05

# Seconds for long answers to begin, for a short one beside them, and for their places to be free once clients left.
_BEGIN, _BLOCKED, _FREE = 5.0, 8.0, 2.0


@rule("life")
async def a_client_that_leaves_frees_its_place(peer: Peer) -> str:
    """After clients have left in the middle of long answers, a short one is no longer as slow as beside them."""
    alone = min([await _timed(peer) for _ in range(_TIMES)])
    expect(alone < _BLOCKED, "a short answer is refused, or takes too long, while nothing else is asked")
    async with _crowd(peer) as running:
        beside = await _timed(peer)
        lasting = sum(not each.done() for each in running)
    if lasting < _LEAVING / 2:
        raise Absent(f"company: {lasting} of {_LEAVING} long answers were still running")
    if beside < max(_SLOWER * alone, alone + _LEAST):
        raise Absent(f"a difference that company makes: {alone:.2f} s alone, {beside:.2f} s beside {lasting} answers")
    bound = min((alone + beside) / 2, max(_FREE, _PATIENCE * alone))
    until = time.monotonic() + _FREE
    after = await _timed(peer)
    while after > bound and time.monotonic() < until:
        after = await _timed(peer)
    told = f"{alone:.2f} s alone, {_told(beside)} beside {lasting} answers, {_told(after)} after their clients left"
    expect(after <= bound, told)
    return told


@asynccontextmanager
async def _crowd(peer: Peer) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Have clients read long answers, of which some have begun; all leave at the end."""
    begun = asyncio.Semaphore(0)
    running = [asyncio.create_task(_read(peer, begun)) for _ in range(_LEAVING)]
    try:
        try:
            async with asyncio.timeout(_BEGIN):
                for _ in running:
                    await begun.acquire()
        except TimeoutError:  # those wait for a place
            pass
        yield running
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _read(peer: Peer, begun: asyncio.Semaphore) -> None:
    async with peer.opened(TALE, **_LONG) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                begun.release()
    begun.release()


async def _timed(peer: Peer) -> float:
    """Return the seconds of a short answer; where there is none within the time for it, that time."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(_BLOCKED):
            reply = await peer.chat(SAID, **_SHORT)
    except TimeoutError:
        return _BLOCKED
    return time.monotonic() - began if reply.ok else _BLOCKED


def _told(seconds: float) -> str:
    return f"none in {seconds:g} s" if seconds >= _BLOCKED else f"{seconds:.2f} s"


@rule("life", "should")
async def company_changes_no_answer(peer: Peer) -> None:
    """Eight clients at once get the likeliest answers that each got alone."""
    asked = [f"{SAID} Begin with the number {number}." for number in range(8)]
    alone = [content(await peer.chat(said, **PLAIN)) for said in asked]
    together = [content(reply) for reply in await asyncio.gather(*(peer.chat(said, **PLAIN) for said in asked))]
    changed = sum(one != other for one, other in zip(alone, together, strict=True))
    expect(not changed, f"{changed} of {len(asked)} answers are others")


@rule("life")
async def no_client_waits_in_vain(peer: Peer) -> str:
    """Sixteen clients at once are answered, or told to come again with 429 or 503."""
    replies = await asyncio.gather(*(peer.chat(SAID, **PLAIN) for _ in range(16)))
    wrong = [str(reply) for reply in replies if not reply.ok and reply.status not in (429, 503)]
    expect(not wrong, f"some got {wrong[:1]}")
    return f"{sum(reply.ok for reply in replies)} of 16 answered"
