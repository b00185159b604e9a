"""The store's part in one request: what the answer goes on from, and what is stored of it."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from gateway.engine import Message

B = TypeVar("B")


class AnswerKeeper(ABC, Generic[B]):
    """Looks up and stores for one request; an endpoint makes one where a body asks for either.

    `is_background` says that the answer is made though its client may leave.
    """

    is_background: bool = False

    async def recall(self, most_bytes: int) -> tuple[Message, ...]:
        """Return what was said before, of `most_bytes` at most; raise `EngineError` or `Problem`."""
        del most_bytes
        return ()

    @property
    @abstractmethod
    def body(self) -> B:
        """The body; once it was recalled, with items in the place of references to them."""

    @abstractmethod
    async def keep(self, reply: bytes) -> bool:
        """Store a whole answer; return False where it was to be stored and could not be. Does not raise."""
