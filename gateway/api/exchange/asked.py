"""What one body asks of an engine."""

from msgspec import Struct, structs

from gateway.config import Config
from gateway.engine import GenerateRequest, ModelCard, Sampling


class Asking(Struct, frozen=True):
    """What a dialect may look at to translate a body, beside the body; `priority` is the caller's highest."""

    card: ModelCard
    config: Config
    request_id: str
    priority: int


def greedy_at_zero(sampling: Sampling) -> Sampling:
    """Say `top_p` 0, which leaves the likeliest token, as engines know it: temperature 0."""
    return structs.replace(sampling, temperature=0.0, top_p=None) if sampling.top_p == 0 else sampling


class Prompts(Struct, frozen=True):
    """One request for each prompt, with the `best_of` answers that are made and the `n` best that are given."""

    requests: tuple[GenerateRequest, ...]
    n: int = 1
    best_of: int = 1

    @property
    def is_single(self) -> bool:
        """Whether there is one prompt with one answer."""
        return len(self.requests) == self.best_of == 1
