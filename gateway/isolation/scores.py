"""The scores of a long prompt cross the border in pieces: one of all of them would stop the reader's event loop."""

import asyncio
from collections.abc import Callable, Iterator
from typing import cast

from msgspec import structs

from gateway.engine import GenerateEvent, Mailbox, Started, TokenLogprob
from gateway.flow.turns import Turns
from gateway.isolation.wire import Scores

# Log-probabilities in one frame, and in a second: the reader's loop takes a microsecond for each.
_MOST = 2_048
_RATE = 500_000.0


class ScoreSender:
    """Posts the scores of long prompts to one connection, no faster than leaves its reader half of its time."""

    def __init__(self, post: Callable[[int, Scores], None], writable: asyncio.Event) -> None:
        self._post = post
        self._writable = writable
        self._turns = Turns(_RATE)

    async def send(self, number: int, started: Started) -> Started:
        """Post the scores of the call `number` where they are many, and return its start without them."""
        scores = started.prompt_logprobs or ()
        told = 1 + max((len(score.top) for score in scores), default=0)
        if len(scores) * told <= _MOST:
            return started
        for piece in _split(scores, max(_MOST // told, 1)):
            await self._turns.wait(len(piece.logprobs) * told)
            await self._writable.wait()
            self._post(number, piece)
        return structs.replace(started, prompt_logprobs=())


async def join_start(mailbox: Mailbox) -> GenerateEvent:
    """Return the first event, with the pieces joined that came before it."""
    scores: list[TokenLogprob] = []
    while isinstance(event := cast("GenerateEvent | Scores", await mailbox.get()), Scores):
        scores += event.logprobs
    return structs.replace(event, prompt_logprobs=tuple(scores)) if scores and isinstance(event, Started) else event


def _split(scores: tuple[TokenLogprob, ...], tokens: int) -> Iterator[Scores]:
    for at in range(0, len(scores), tokens):
        yield Scores(scores[at : at + tokens])
