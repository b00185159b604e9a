"""The last requests in memory, with their answers: to run one again and see where the texts part.

Nothing is recorded unless the configuration says how many. Only an admin is shown a record, by `/v1/replay`.
"""

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from itertools import count
from sys import getsizeof

import msgspec
from msgspec import Struct

from gateway.config import ReplaySettings
from gateway.engine import GenerateEvent, GenerateRequest, ModelCard, Started, system_fingerprint
from gateway.inflight import InFlightRequest, is_of
from gateway.service.maker import ServiceEvent
from gateway.service.shadow import Recording, diverges_at

# Bytes that a piece of an answer takes beside its text, and a record beside what is asked and its pieces, about.
_PIECE = 64
_RECORD = 720
# Below such a temperature nothing but the likeliest token is ever drawn.
_GREEDY = 1e-5


class RecordedRequest(Struct, frozen=True, eq=False):
    """One request as it was asked, the model that answered it, and what that said; `created` is in seconds since 1970.

    `asked` is its `GenerateRequest` in MessagePack. An answer that was not finished has no `Finished`.
    """

    id: str
    caller: str
    model: str
    asked: bytes
    answered: Recording
    fingerprint: str | None
    is_repeatable: bool
    created: int

    @property
    def request(self) -> GenerateRequest:
        """The request."""
        return msgspec.msgpack.decode(self.asked, type=GenerateRequest)

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return _RECORD + getsizeof(self.asked) + sum(map(_piece_size, self.answered.pieces))


class Parting(Struct, frozen=True):
    """Where two texts part: so many characters and tokens of the first are the same."""

    character: int
    token: int


class Records:
    """Keeps the last requests, within the number and the bytes that the settings in force allow."""

    def __init__(self, settings: Callable[[], ReplaySettings]) -> None:
        self.size = 0
        self._settings = settings
        self._kept: OrderedDict[int, RecordedRequest] = OrderedDict()
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def is_on(self) -> bool:
        """Whether requests are recorded."""
        return self._settings().requests > 0

    def find(self, request_id: str) -> list[RecordedRequest]:
        """Find the answers to a request by its id, in the order in which they ended."""
        self._shrink()
        return [record for record in self._kept.values() if is_of(record.id, request_id)]

    def follow(
        self, entry: InFlightRequest, events: AsyncGenerator[ServiceEvent, None]
    ) -> AsyncGenerator[ServiceEvent, None]:
        """Pass an answer on, and record it where that is wanted: no replay, and no line of a batch."""
        if not self.is_on or not entry.options.is_recorded or entry.options.standby is not None:
            return events
        return self._follow(entry, events)

    async def _follow(
        self, entry: InFlightRequest, events: AsyncGenerator[ServiceEvent, None]
    ) -> AsyncGenerator[ServiceEvent, None]:
        answered, started, most = Recording(), None, self._settings().max_bytes
        held = 0
        try:
            async with aclosing(events) as own:
                async for event in own:
                    if isinstance(event, GenerateEvent):
                        if type(event) is Started:
                            started = event
                        if held <= most:
                            answered.add(event)
                            held += _piece_size(answered.pieces[-1]) if answered.pieces else 0
                    yield event
        finally:
            if started is not None:
                self.keep(_record(entry, started.model or entry.target.card.name, answered))

    def keep(self, record: RecordedRequest) -> None:
        """Keep a record, and let the oldest go for it; one that is larger than all may be is not kept."""
        if record.size > self._settings().max_bytes:
            return  # all others would go for it, and it itself
        self._kept[next(self._numbers)] = record
        self.size += record.size
        self._shrink()

    def _shrink(self) -> None:
        settings = self._settings()
        while self._kept and (len(self._kept) > settings.requests or self.size > settings.max_bytes):
            _, oldest = self._kept.popitem(last=False)
            self.size -= oldest.size


def _piece_size(piece: tuple[str, int]) -> int:
    """Return about how many bytes of memory a piece of an answer takes; a character takes one to four."""
    return _PIECE + getsizeof(piece[0])


def _record(entry: InFlightRequest, model: str, answered: Recording) -> RecordedRequest:
    card = _card(entry, model)
    return RecordedRequest(
        id=entry.request.id,
        caller=entry.caller.id,
        model=model,
        asked=msgspec.msgpack.encode(entry.request),
        answered=answered,
        fingerprint=system_fingerprint(card),
        is_repeatable=is_repeatable(entry.request, card),
        created=int(time.time()),
    )


def _card(entry: InFlightRequest, model: str) -> ModelCard:
    """Find the card of the model that answered; it may be known better since the request was admitted."""
    route = entry.target.route
    targets = (entry.target, *(route.targets if route is not None else ()))
    cards = (target.hosted.answers_to(model) for target in targets)
    return next((card for card in cards if card is not None and card.name == model), entry.target.card)


def is_repeatable(request: GenerateRequest, card: ModelCard) -> bool:
    """Tell whether the same request has the same answer: by the likeliest tokens, or with a seed."""
    wishes = (request.sampling, request.defaults, card.defaults)
    temperature = next((each.temperature for each in wishes if each.temperature is not None), 1.0)
    return temperature < _GREEDY or any(each.seed is not None for each in wishes)


def compare(then: Recording, now: Recording) -> Parting | None:
    """Find where two answers part; `None` where they are the same, as far as the first was made."""
    first, second = then.text, now.text
    if then.finished is None and second.startswith(first):
        return None
    token = diverges_at(then, now)
    if token is None:
        return None
    differing = (at for at, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    return Parting(next(differing, min(len(first), len(second))), token)
