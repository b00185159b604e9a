"""How long an answer may get: prompt and answer share the context."""

from gateway.engine.errors import ContextTooLong, InvalidRequest
from gateway.engine.types import ModelCard, Sampling


def answer_limit(sampling: Sampling, prompt_tokens: int, card: ModelCard) -> int:
    """Count the most tokens that the answer may have: as asked, else the model's default, else what is left.

    Raises `ContextTooLong` when prompt and answer do not fit, `InvalidRequest` when nothing is left of what was asked.
    """
    room = card.context_window - prompt_tokens
    if room < 1:
        over = f"{-room} too many for" if room else "which leaves no room to answer in"
        raise ContextTooLong(f"the prompt has {prompt_tokens} tokens; {over} the context of {card.context_window}")
    asked = _asked(sampling, prompt_tokens)
    if asked is None:
        usual = _asked(card.defaults, prompt_tokens)
        return room if usual is None or usual < 1 else min(usual, room)
    name = "max_tokens" if sampling.max_tokens is not None else "max_length"
    if asked < 1:
        raise InvalidRequest(
            f"{name} is {getattr(sampling, name)}, which leaves no token to answer {prompt_tokens} with", param=name
        )
    if asked > room:
        raise ContextTooLong(
            f"the prompt has {prompt_tokens} tokens and {asked} are to follow; "
            f"{asked - room} too many for the context of {card.context_window}",
            param=name,
        )
    return asked


def _asked(sampling: Sampling, prompt_tokens: int) -> int | None:
    if sampling.max_tokens is not None:
        return sampling.max_tokens
    return None if sampling.max_length is None else sampling.max_length - prompt_tokens
