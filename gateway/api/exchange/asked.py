"""What one body asks of an engine."""

from msgspec import Struct

from gateway.config import Config
from gateway.engine import GenerateRequest, ModelCard


class Asking(Struct, frozen=True):
    """What a dialect may look at to translate a body, beside the body; `priority` is the caller's highest."""

    card: ModelCard
    config: Config
    request_id: str
    priority: int


class Prompts(Struct, frozen=True):
    """One request for each prompt, with the `best_of` answers that are made and the `n` best that are given."""

    requests: tuple[GenerateRequest, ...]
    n: int = 1
    best_of: int = 1

    @property
    def is_single(self) -> bool:
        """Whether there is one prompt with one answer."""
        return len(self.requests) == self.best_of == 1
