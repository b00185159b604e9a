"""The terms of one answer: the model's defaults filled in, its length counted, its token ids checked."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from gateway.engine import ContextTooLong, InvalidRequest, ModelCard, Sampling

_GREEDY = 1e-5


class Terms(Struct, frozen=True, kw_only=True):
    """How one answer is drawn and where it ends; every field of `Sampling` that counts, settled.

    `limit` is the most tokens it may have. `eos_ids` is empty where the end of sequence is to be ignored.
    """

    limit: int
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    eos_ids: frozenset[int] = frozenset()
    logprobs: int | None = None

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken; below such a temperature nothing else ever is."""
        return self.temperature < _GREEDY

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end the answer when they are drawn."""
        return self.eos_ids | self.stop_token_ids


# What `Terms` takes over from `Sampling` under the same name.
_SHARED = tuple(set(Sampling.__struct_fields__) & set(Terms.__struct_fields__))


def settle(sampling: Sampling, prompt_tokens: int, card: ModelCard, eos_ids: frozenset[int]) -> Terms:
    """Settle the terms; raise `ContextTooLong` or `InvalidRequest` where the request asks for the impossible."""
    limit = _limit(sampling, prompt_tokens, card)
    settled: dict[str, object] = {
        "limit": limit,
        "eos_ids": frozenset() if _first("ignore_eos", sampling, card) else eos_ids,
    }
    for name in _SHARED:
        if (value := _first(name, sampling, card)) is not None:
            settled[name] = value
    terms = msgspec.convert(settled, Terms)
    if sampling.min_tokens is not None and sampling.min_tokens > limit:
        raise InvalidRequest(f"min_tokens is {sampling.min_tokens}, but at most {limit} can follow", param="min_tokens")
    _check_ids(terms.logit_bias, "logit_bias", card.vocabulary)
    _check_ids(terms.stop_token_ids, "stop_token_ids", card.vocabulary)
    return terms


def _first(name: str, sampling: Sampling, card: ModelCard) -> object:
    asked: object = getattr(sampling, name)
    return getattr(card.defaults, name) if asked is None else asked


def _limit(sampling: Sampling, prompt_tokens: int, card: ModelCard) -> int:
    """Count the most tokens that the answer may have: as asked, else the model's default, else what is left."""
    room = card.context_window - prompt_tokens
    _check_prompt(prompt_tokens, room, card.context_window)
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


def _check_prompt(prompt_tokens: int, room: int, context_window: int) -> None:
    if room < 1:
        over = f"{-room} too many for" if room else "which leaves no room to answer in"
        raise ContextTooLong(f"the prompt has {prompt_tokens} tokens; {over} the context of {context_window}")


def _asked(sampling: Sampling, prompt_tokens: int) -> int | None:
    if sampling.max_tokens is not None:
        return sampling.max_tokens
    return None if sampling.max_length is None else sampling.max_length - prompt_tokens


def _check_ids(ids: Iterable[int], name: str, vocabulary: int) -> None:
    for token in ids:
        if not 0 <= token < vocabulary:
            raise InvalidRequest(f"{name} has the token {token}; the vocabulary ends at {vocabulary - 1}", param=name)
