"""How long an answer may get: what was asked for, less what the context has no room for."""

from gateway.engine.errors import ContextTooLong
from gateway.engine.types import Sampling


def answer_limit(sampling: Sampling, prompt_tokens: int, context_window: int) -> int:
    """Return the tokens that the answer may have; raise `ContextTooLong` when prompt and answer cannot fit."""
    room = context_window - prompt_tokens
    if room < 1:
        raise ContextTooLong(
            f"the prompt has {prompt_tokens} tokens; {1 - room} too many for a context of {context_window} "
            "that has to hold an answer too"
        )
    asked = _asked(sampling, prompt_tokens, room)
    if asked > room:
        raise ContextTooLong(
            f"the prompt has {prompt_tokens} tokens and the answer may have {asked}; "
            f"{asked - room} too many for a context of {context_window}"
        )
    return asked


def _asked(sampling: Sampling, prompt_tokens: int, room: int) -> int:
    if sampling.max_tokens is not None:
        return sampling.max_tokens
    if sampling.max_length is None:
        return room
    if sampling.max_length <= prompt_tokens:
        raise ContextTooLong(
            f"the prompt has {prompt_tokens} tokens; a length of {sampling.max_length} leaves none for the answer"
        )
    return sampling.max_length - prompt_tokens
