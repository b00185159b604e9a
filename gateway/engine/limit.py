"""How long an answer may get: prompt and answer share the context."""

from gateway.engine.errors import ContextTooLong, InvalidRequest
from gateway.engine.sampling import Sampling
from gateway.engine.types import ModelCard


def answer_limit(sampling: Sampling, prompt_tokens: int, card: ModelCard) -> int:
    """Count the most tokens that the answer may have: as asked, else the model's default, else what is left.

    Raises `ContextTooLong` when prompt and answer do not fit, `InvalidRequest` when nothing is left of what was asked,
    or less than the `min_tokens` that were asked for; a default gives way to these.
    """
    room = card.context_window - prompt_tokens
    if room < 1:
        over = f"{-room} too many for" if room else "that leaves no room to answer in"
        raise ContextTooLong(
            f"the prompt has {_tokens(prompt_tokens)}; {over} the context of {card.context_window}", param="prompt"
        )
    least = sampling.min_tokens or 0
    asked = _asked(sampling, prompt_tokens)
    if asked is None:
        usual = _asked(card.defaults, prompt_tokens)
        limit = room if usual is None or usual < 1 else min(max(usual, least), room)
    else:
        limit = _checked(asked, sampling, prompt_tokens, card)
    if least > limit:
        raise InvalidRequest(f"min_tokens is {least}, but the answer can have {limit} at most", param="min_tokens")
    return limit


def _asked(sampling: Sampling, prompt_tokens: int) -> int | None:
    if sampling.max_tokens is not None:
        return sampling.max_tokens
    return None if sampling.max_length is None else sampling.max_length - prompt_tokens


def _checked(asked: int, sampling: Sampling, prompt_tokens: int, card: ModelCard) -> int:
    """Return the length that was asked for; refuse one that is none, or does not fit."""
    name = "max_tokens" if sampling.max_tokens is not None else "max_length"
    has = f"the prompt has {_tokens(prompt_tokens)}"
    if asked < 1:
        raise InvalidRequest(f"{name} is {getattr(sampling, name)} and {has}; none is left for the answer", param=name)
    over = asked + prompt_tokens - card.context_window
    if over > 0:
        follow = "1 is" if asked == 1 else f"{asked} are"
        raise ContextTooLong(
            f"{has} and {follow} to follow; {over} too many for the context of {card.context_window}", param=name
        )
    return asked


def _tokens(number: int) -> str:
    return "1 token" if number == 1 else f"{number} tokens"
