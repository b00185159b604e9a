"""Life: clients that leave, and clients that come together."""

import asyncio
import time

from gateway.cli.conformance.peer import Peer
from gateway.cli.conformance.rule import expect, rule
from gateway.cli.conformance.rules.answers import PLAIN, SAID, content

_LEAVING = 16
_LONG = {"temperature": 1, "max_tokens": 1_500}
_PATIENCE = 5.0
_FLOOR_SECONDS = 2.0


@rule("life")
async def a_client_that_leaves_frees_its_place(peer: Peer) -> str:
    """After clients have left in the middle of long answers, a short one takes no longer than before."""
    alone = await _timed(peer)
    for _ in range(_LEAVING):
        async with peer.opened("Write a very long story about the sea.", **_LONG) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    break
    after = await _timed(peer)
    bound = max(_FLOOR_SECONDS, _PATIENCE * alone)
    expect(after <= bound, f"{after:.2f} s after {_LEAVING} clients left, {alone:.2f} s before")
    return f"{alone:.2f} s before, {after:.2f} s after"


async def _timed(peer: Peer) -> float:
    began = time.monotonic()
    reply = await peer.chat(SAID, max_tokens=4)
    expect(reply.ok, f"answered {reply}")
    return time.monotonic() - began


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
