"""One sequence of tokens: the prompt, then what was drawn; how much of it the cache holds, and where."""

import dataclasses
from typing import NamedTuple


class Alternative(NamedTuple):
    """A token and its natural log probability."""

    id: int
    logprob: float


@dataclasses.dataclass(eq=False, slots=True)
class Sequence:
    """Token ids and counts; two sequences are never equal.

    tokens    [0 ........ prompt_tokens)[prompt_tokens ........ len)
    in cache  [0 .......... computed)   [computed .. len) is pending
    blocks    [0 .......... computed ..... room)

    The model reads it with the adapter of the number `adapter`, 0 for none. `draft` are guesses at the tokens after the
    last one, to be verified. One on `standby` is computed where no other is. `cached` counts the prompt's tokens that
    were found in the cache, `preempted` how often the blocks were taken away. `chain` and `sealed` are the business of
    `Blocks`: the hashes of the full blocks of tokens, and how many of `blocks` were looked at for others to find.

    Where `ranks` is a number, the prompt is scored: `scores` grows to one entry for each of its tokens but the first,
    which holds the token itself and then the `ranks` likeliest in its place.
    """

    tokens: list[int]
    priority: int = 0
    salt: str = ""
    ranks: int | None = None
    adapter: int = 0
    standby: bool = False
    prompt_tokens: int = dataclasses.field(init=False)
    computed: int = 0
    blocks: list[int] = dataclasses.field(default_factory=list)
    cached: int = 0
    draft: list[int] = dataclasses.field(default_factory=list)
    preempted: int = 0
    chain: list[bytes] = dataclasses.field(default_factory=list)
    sealed: int = 0
    scores: list[tuple[Alternative, ...]] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.tokens)

    @property
    def pending(self) -> int:
        """The tokens that the model has not seen; the next one is drawn from what it says to the last of them."""
        return len(self.tokens) - self.computed

    @property
    def prefilling(self) -> bool:
        """Whether more is pending than one token: the prompt, or all over again what was preempted."""
        return self.pending > 1

    @property
    def scoring(self) -> bool:
        """Whether scores are still missing: what the model says to each token of the prompt but the last is needed."""
        return self.ranks is not None and len(self.scores) < self.prompt_tokens - 1


class Drawn(NamedTuple):
    """The token that was drawn; with log probabilities, its own first and then the likeliest, where they are wanted."""

    id: int
    logprobs: tuple[Alternative, ...] = ()
