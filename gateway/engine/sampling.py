"""How the tokens of an answer are chosen, as a request asks for it or a model has it by default."""

from msgspec import Struct


class Sampling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How tokens are chosen and when to stop; `None` is the model's own default, filled by the engine.

    `max_tokens` counts the answer, `max_length` prompt and answer together; at most one is set. `temperature` 0 is
    greedy. `top_k` 0 and `top_p` 1 are off. `logit_bias` maps token ids to what is added to their logits.
    `stop` strings are cut from the answer; `stop_token_ids` end it and are not shown; both are shown with
    `include_stop_str_in_output`. Before `min_tokens` nothing of `stop`, `stop_token_ids` or the end of sequence ends
    the answer. Only `allowed_token_ids` are drawn, where there are any, the end of sequence too only if it is among
    them. The tokens that spell one of `bad_words`, at the beginning of a text or behind a blank, are not drawn one
    after the other. `logprobs` is the number of alternatives. With `token_ids` the ids of all tokens are told.
    """

    max_tokens: int | None = None
    max_length: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    stop_token_ids: tuple[int, ...] | None = None
    include_stop_str_in_output: bool | None = None
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] | None = None
    token_ids: bool | None = None
    ignore_eos: bool | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
