"""Who runs, and what is computed in this step: ints and lists, no tensors.

A sequence waits in the line until a place is free: higher priority first, then first come, first served. It keeps
its place until it leaves.
"""

import bisect
from typing import NamedTuple

from gateway_hf.sequence import Sequence


class Chunk(NamedTuple):
    """The next `tokens` pending tokens of a sequence."""

    sequence: Sequence
    tokens: int


class Step(NamedTuple):
    """One step: these sequences decode one token each, these prefill a chunk of their prompt."""

    decodes: list[Sequence]
    prefills: list[Chunk]


class Scheduler:
    """Hands out `places` and plans steps.

    A step decodes every sequence that can and prefills at most `chunk` tokens of prompts, in the order of admission:
    a flow of prompts never keeps the others from decoding, nor a full house a prompt from being read.
    """

    def __init__(self, places: int, chunk: int) -> None:
        self._places = places
        self._chunk = chunk
        self._line: list[Sequence] = []
        self._running: list[Sequence] = []

    @property
    def waiting(self) -> int:
        """How many wait in the line."""
        return len(self._line)

    @property
    def running(self) -> int:
        """How many have a place."""
        return len(self._running)

    @property
    def cached(self) -> int:
        """How many tokens the cache holds; may be asked from any thread."""
        return sum([sequence.computed for sequence in self._running])

    def add(self, sequence: Sequence) -> None:
        """Put a sequence into the line, behind those of its priority."""
        bisect.insort_right(self._line, sequence, key=lambda waiting: -waiting.priority)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out of its place or out of the line; harmless when it is in neither."""
        for where in (self._running, self._line):
            if sequence in where:
                where.remove(sequence)

    def admit(self) -> list[Sequence]:
        """Give the free places to the head of the line, and say who got one."""
        free = self._places - len(self._running)
        admitted, self._line = self._line[:free], self._line[free:]
        self._running += admitted
        return admitted

    def plan(self) -> Step:
        """Plan the next step; it is empty when nobody has a place."""
        step = Step([], [])
        room = self._chunk
        for sequence in self._running:
            if not sequence.prefilling:
                step.decodes.append(sequence)
            elif tokens := min(room, sequence.prompt_tokens - sequence.computed):
                step.prefills.append(Chunk(sequence, tokens))
                room -= tokens
        return step
