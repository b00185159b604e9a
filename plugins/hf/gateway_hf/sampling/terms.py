"""The terms of one answer: the model's defaults filled in, its length counted, its token ids checked."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from gateway.engine import InvalidRequest, ModelCard, Sampling, answer_limit

_GREEDY = 1e-5
# Beyond these a penalized logit is no number any more.
_LEAST_PENALTY, _MOST_PENALTY = 1e-3, 1e3


class Terms(Struct, frozen=True, kw_only=True):
    """How one answer is drawn and where it ends; every field of `Sampling` that counts, settled.

    `limit` is the most tokens it may have. `eos_ids` is empty where the end of sequence is to be ignored. `bad_words`
    are spelled in tokens; any token may be drawn where `allowed_token_ids` is empty.
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
    include_stop_str_in_output: bool = False
    allowed_token_ids: tuple[int, ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()
    logprobs: int | None = None
    token_ids: bool = False

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken; below such a temperature nothing else ever is."""
        return self.temperature < _GREEDY

    @property
    def has_bans(self) -> bool:
        """Whether there are tokens that may not be drawn."""
        return bool(self.allowed_token_ids or self.bad_words)

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end the answer when they are drawn."""
        return self.eos_ids | self.stop_token_ids


# What `Terms` takes over from `Sampling` under the same name; bad words have to be spelled first.
_SHARED = tuple((set(Sampling.__struct_fields__) & set(Terms.__struct_fields__)) - {"bad_words"})


def settle(sampling: Sampling, prompt_tokens: int, card: ModelCard, eos_ids: frozenset[int]) -> Terms:
    """Settle the terms, but for bad words; raise `ContextTooLong` or `InvalidRequest` for what cannot be had."""
    limit = answer_limit(sampling, prompt_tokens, card)
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
    penalty = sampling.repetition_penalty
    if penalty is not None and not _LEAST_PENALTY <= penalty <= _MOST_PENALTY:
        raise InvalidRequest(
            f"repetition_penalty is {penalty:g}; it goes from {_LEAST_PENALTY:g} to {_MOST_PENALTY:g}",
            param="repetition_penalty",
        )
    _check_ids(terms.logit_bias, "logit_bias", card.vocabulary)
    _check_ids(terms.stop_token_ids, "stop_token_ids", card.vocabulary)
    _check_ids(terms.allowed_token_ids, "allowed_token_ids", card.vocabulary)
    if sampling.allowed_token_ids == ():
        raise InvalidRequest("allowed_token_ids is empty: no token may be drawn", param="allowed_token_ids")
    return terms


def _first(name: str, sampling: Sampling, card: ModelCard) -> object:
    asked: object = getattr(sampling, name)
    return getattr(card.defaults, name) if asked is None else asked


def _check_ids(ids: Iterable[int], name: str, vocabulary: int) -> None:
    for token in ids:
        if not 0 <= token < vocabulary:
            raise InvalidRequest(f"{name} has the token {token}; the vocabulary ends at {vocabulary - 1}", param=name)
