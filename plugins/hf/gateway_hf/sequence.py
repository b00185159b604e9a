"""One sequence of tokens: the prompt, then what was drawn; how much of it the cache holds."""

import dataclasses
from typing import NamedTuple


@dataclasses.dataclass(eq=False, slots=True)
class Sequence:
    """Token ids and three counts; two sequences are never equal.

    tokens    [0 ........ prompt_tokens)[prompt_tokens ........ len)
    in cache  [0 .......... computed)   [computed .. len) is pending
    """

    tokens: list[int]
    priority: int = 0
    prompt_tokens: int = 0
    computed: int = 0

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.tokens)

    @property
    def pending(self) -> int:
        """The tokens that the model has not seen; the next one can be drawn when there are none."""
        return len(self.tokens) - self.computed

    @property
    def prefilling(self) -> bool:
        """Whether a part of the prompt is pending."""
        return self.computed < self.prompt_tokens


class Alternative(NamedTuple):
    """A token and its natural log probability."""

    id: int
    logprob: float


class Drawn(NamedTuple):
    """The token that was drawn; with log probabilities, its own first and then the likeliest, where they are wanted."""

    id: int
    logprobs: tuple[Alternative, ...] = ()
