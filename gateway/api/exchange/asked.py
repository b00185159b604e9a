"""What one body asks of an engine."""

from msgspec import Struct, structs

from gateway.config import Config
from gateway.engine import GenerateRequest, InvalidRequest, Message, ModelCard, Sampling
from gateway.flow.fitting import Shorten

# All are tokenized before the answer begins.
_BAD_CHARACTERS = 16_384


class Asking(Struct, frozen=True):
    """What a dialect may look at to translate a body, beside the body.

    `priority` is the caller's highest, `past` what the store knows of what was said before.
    """

    card: ModelCard
    config: Config
    request_id: str
    priority: int
    past: tuple[Message, ...] = ()


def greedy_at_zero(sampling: Sampling) -> Sampling:
    """Say `top_p` 0, which leaves the likeliest token, as engines know it: temperature 0."""
    return structs.replace(sampling, temperature=0.0, top_p=None) if sampling.top_p == 0 else sampling


def check_bad_words(words: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return the words; raise `InvalidRequest` where one is blank, or all together are too long to be read."""
    for number, word in enumerate(words or ()):
        if word.isspace():
            raise InvalidRequest(f"bad_words[{number}] is blank", param=f"bad_words[{number}]")
    if words and (size := sum(map(len, words))) > _BAD_CHARACTERS:
        raise InvalidRequest(
            f"bad_words has {size} characters; {_BAD_CHARACTERS} are the most of all together", param="bad_words"
        )
    return words


class Prompts(Struct, frozen=True):
    """One request for each prompt, with the `best_of` answers that are made and the `n` best that are given.

    `shorten` says what of a prompt may be left out where it is too long.
    """

    requests: tuple[GenerateRequest, ...]
    n: int = 1
    best_of: int = 1
    shorten: Shorten | None = None

    @property
    def is_single(self) -> bool:
        """Whether there is one prompt with one answer."""
        return len(self.requests) == self.best_of == 1

    @property
    def is_structured(self) -> bool:
        """Whether the answers are held to a shape."""
        return self.requests[0].constraint is not None
