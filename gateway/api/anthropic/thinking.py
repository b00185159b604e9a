"""Thoughts in Anthropic's dialect: how to think first, and the signature of a thought; pure."""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.api.exchange.thinking import EffortWord, ThinkingWish, combine, wish_effort
from gateway.engine import InvalidRequest

_OWN = "gw1."
_DIGEST_BYTES = 16
_OFF = frozenset({"disabled", "between_tools"})


class Thinking(Struct, frozen=True):
    """Whether to think first."""

    type: Annotated[
        Literal["enabled", "disabled", "adaptive", "between_tools"],
        Meta(
            description="To think, not to, or as the model likes. `between_tools` is not to think: no model here tells"
            " its progress between calls apart from its text.",
            examples=["disabled"],
        ),
    ]
    budget_tokens: Annotated[
        Annotated[int, Meta(ge=1, le=2**31)] | None,
        Meta(description="The tokens to think in, fewer than `max_tokens`.", examples=[1_024]),
    ] = None
    display: Annotated[
        Literal["summarized", "omitted"] | None,
        Meta(description="`omitted` tells the thought's signature and not the thought. Left out: tell all of it."),
    ] = None


class Signature:
    """The signature of one thought, made as its text comes.

    It is a digest of the text, and no secret: it tells a thought that was sent back from one that was changed.
    """

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=_DIGEST_BYTES)

    def add(self, text: str) -> None:
        """Take the next piece of the thought."""
        self._digest.update(text.encode("utf-8", "surrogatepass"))

    def __str__(self) -> str:
        return f"{_OWN}{self._digest.hexdigest()}"


def sign(thought: str) -> str:
    """Return the signature of a whole thought."""
    signature = Signature()
    signature.add(thought)
    return str(signature)


def check_signature(thought: str, signature: str, path: str) -> None:
    """Raise `InvalidRequest` for a signature of ours of another thought; those of others are not looked at.

    A thought that was not told comes back without its text.
    """
    if thought and signature.startswith(_OWN) and signature != sign(thought):
        raise InvalidRequest("this thought is not the one that was signed", param=path)


def to_thinking(thinking: Thinking | None, effort: EffortWord | None, max_tokens: int | None) -> ThinkingWish:
    """Make one wish of both words; raise `InvalidRequest` where they, or the length, contradict each other."""
    budget = None if thinking is None or thinking.type in _OFF else thinking.budget_tokens
    if budget is not None and max_tokens is not None and budget >= max_tokens:
        raise InvalidRequest(
            f"{budget} tokens to think in leave none of {max_tokens} for the answer", param="thinking.budget_tokens"
        )
    return combine(wishes(thinking, effort))


def wishes(thinking: Thinking | None, effort: EffortWord | None) -> Iterator[ThinkingWish]:
    """Yield what each word asks for."""
    if thinking is not None:
        switch = False if thinking.type in _OFF else thinking.type == "enabled" or None
        budget = None if thinking.type in _OFF else thinking.budget_tokens
        yield ThinkingWish("thinking", reasoning=switch)
        yield ThinkingWish("thinking.budget_tokens", budget=budget)
    if effort is not None:
        yield wish_effort("output_config.effort", effort)
