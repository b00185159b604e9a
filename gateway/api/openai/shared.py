"""Fields that both bodies share."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.api.exchange.shape import ShapedBody
from gateway.api.reference.fields import (
    AllowedTokenIds,
    AskedModel,
    BadWords,
    Elsewhere,
    FrequencyPenalty,
    IgnoreEos,
    IncludeStop,
    LogitBias,
    MinP,
    PresencePenalty,
    RepetitionPenalty,
    Seed,
    Stop,
    StopTokenIds,
    Temperature,
    TopP,
    User,
)

TokenCountLimit = Annotated[int, Meta(ge=0, le=2**31)]
Choices = Annotated[int, Meta(ge=1, le=8)]
# More would be the work of a whole vocabulary for each token.
MOST_ALTERNATIVES = 20
Alternatives = Annotated[int, Meta(ge=-1, le=MOST_ALTERNATIVES)]
TokenId = Annotated[int, Meta(ge=0, le=2**31)]
NonEmptyText = Annotated[str, Meta(min_length=1)]


class StreamOptions(Struct, frozen=True):
    """Options of a stream."""

    include_usage: Annotated[bool | None, Meta(description="End with a chunk that has the usage and no choices.")] = (
        None
    )
    continuous_usage_stats: Annotated[
        bool | None,
        Meta(
            description="Say in every chunk what its answer used so far; without effect unless `include_usage` is true."
        ),
    ] = None
    include_obfuscation: Annotated[
        bool | None, Meta(description="Refused where it is true: chunks are never padded.")
    ] = None


class CommonBody(ShapedBody, frozen=True, kw_only=True):
    """The fields of both bodies."""

    model: AskedModel = None
    stream: Annotated[bool | None, Meta(description="Send the answer as Server-Sent Events. Left out: false.")] = None
    stream_options: Annotated[
        StreamOptions | None,
        Meta(description="Only with `stream`. Left out: nothing extra.", examples=[{"include_usage": True}]),
    ] = None
    n: Annotated[
        Choices | None,
        Meta(
            description="How many answers to give; with a seed, answer i has the seed + i. Left out: 1.", examples=[1]
        ),
    ] = None
    temperature: Temperature = None
    top_p: TopP = None
    top_k: Annotated[
        Annotated[int, Meta(ge=-1, le=2**31)] | None,
        Meta(description="Draw from this many of the likeliest tokens. Left out: 0; like -1, off.", examples=[40]),
    ] = None
    min_p: MinP = None
    repetition_penalty: RepetitionPenalty = None
    presence_penalty: PresencePenalty = None
    frequency_penalty: FrequencyPenalty = None
    logit_bias: LogitBias = None
    seed: Seed = None
    stop: Stop = None
    stop_token_ids: StopTokenIds = None
    include_stop_str_in_output: IncludeStop = None
    allowed_token_ids: AllowedTokenIds = None
    bad_words: BadWords = None
    min_tokens: Annotated[
        TokenCountLimit | None,
        Meta(description="Tokens before the answer may end by itself or by a stop. Left out: 0.", examples=[4]),
    ] = None
    ignore_eos: IgnoreEos = None
    prompt_logprobs: Annotated[
        Alternatives | None,
        Meta(
            description="Tell how likely each token of the prompt was, and so many alternatives; not with `stream`."
            " Left out: do not.",
            examples=[1],
        ),
    ] = None
    return_token_ids: Annotated[
        bool | None, Meta(description="Tell the ids of all tokens, of the prompt and the answer. Left out: false.")
    ] = None
    return_tokens_as_token_ids: Annotated[
        bool | None,
        Meta(description="Name the tokens of `logprobs` by their ids, as `token_id:7042`. Left out: false, by texts."),
    ] = None
    timings_per_token: Annotated[
        bool | None,
        Meta(description="Tell how fast the answer is made, in a stream with every chunk. Left out: false."),
    ] = None
    truncate_prompt_tokens: Annotated[
        Annotated[int, Meta(ge=-1, le=2**31)] | None,
        Meta(
            description="Read only so many of a prompt's last tokens; -1: as many as the context has room for beside"
            " the answer. Left out: all.",
            examples=[512],
        ),
    ] = None
    truncation_side: Annotated[
        Literal["left", "right"] | None,
        Meta(
            description="Where `truncate_prompt_tokens` cuts: `right` reads the first tokens. Left out: `left`.",
            examples=["left"],
        ),
    ] = None
    cache_salt: Annotated[
        Annotated[str, Meta(min_length=1, max_length=512)] | None,
        Meta(
            description="Share cached prefixes only with requests that have the same. Left out: none.", examples=["a"]
        ),
    ] = None
    user: User = None
    length_penalty: Elsewhere = None
    skip_special_tokens: Elsewhere = None
    use_beam_search: Elsewhere = None
