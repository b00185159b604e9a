"""What crosses between a gateway and a replica, and how much of it at a time.

A streamed item costs Ray some 300 µs, whatever is in it. So a replica says all that is ready as one run, and the more
answers it streams, the longer each of them collects.
"""

import asyncio
from typing import NamedTuple

from msgspec import Raw, Struct
from msgspec.msgpack import Decoder

from gateway.engine import Ended, Failure, GenerateEvent, GenerateRequest, ModelCard, Result, Status

# Runs in a second of all answers of a replica together, but for the first and the last run of each.
_RUNS = 100.0


class ReplicaCall(NamedTuple):
    """A request to a replica; the router reads all but its body.

    `number` is that of an answer in this process, 0 for a question. `affinity` is equal for prompts that begin alike,
    and empty where any replica will do. A replica is full when it gives `places` answers; 0 where that is not known.
    """

    number: int
    affinity: bytes
    places: int
    body: bytes


class EventRun(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Events of one answer in order, the last perhaps its end; the replica's name, and now and then its state."""

    replica: str
    status: Status | None
    said: list[GenerateEvent | Ended | Failure]


class AskedMethod(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A question of the `Engine` interface: the method of this name, with its arguments in their places."""

    method: str
    arguments: Raw


class HostedModels(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The models of a replica, and the digest of the settings that it was deployed with."""

    digest: str
    cards: tuple[ModelCard, ...]


RUN = Decoder(EventRun)
REQUEST = Decoder(GenerateRequest)
QUESTION = Decoder(AskedMethod)
MODELS = Decoder(HostedModels)
LAST: Decoder[Result | Failure] = Decoder(Result | Failure)


class RunPace:
    """How long an answer collects before its next run: all `answers` of a replica together send `_RUNS` a second."""

    def __init__(self) -> None:
        self.answers = 0

    async def wait(self, ended: asyncio.Task[None]) -> None:
        """Wait for an answer's turn, or for its end where that comes first."""
        await asyncio.wait({ended}, timeout=self.answers / _RUNS)
