"""A prompt that does not fit a model's context, made shorter until it does."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from gateway.engine import ContextTooLong, GenerateEvent, GenerateRequest

Generating = Callable[[GenerateRequest], AsyncGenerator[GenerateEvent, None]]
Shorten = Callable[[GenerateRequest], GenerateRequest | None]


def fitted(ask: Generating, request: GenerateRequest, shorten: Shorten | None) -> AsyncGenerator[GenerateEvent, None]:
    """Return the events of the answer to a request, or to what `shorten` leaves of it once that fits.

    They raise what `ask` raises: `ContextTooLong` only where there is no `shorten`, or it returns `None`, for nothing
    more may go.
    """
    return ask(request) if shorten is None else _fitted(ask, request, shorten)


async def _fitted(ask: Generating, request: GenerateRequest, shorten: Shorten) -> AsyncGenerator[GenerateEvent, None]:
    while True:
        is_begun = False
        try:
            async with aclosing(ask(request)) as events:
                async for event in events:
                    is_begun = True
                    yield event
        except ContextTooLong:
            shorter = None if is_begun else shorten(request)
            if shorter is None:
                raise
            request = shorter
        else:
            return
