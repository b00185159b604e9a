"""Bodies and answers of `/v1/generate`."""

from typing import Annotated, ClassVar, Literal

from msgspec import UNSET, Meta, Struct

from gateway.api.exchange.constraint import StructuredAnswer
from gateway.api.exchange.shape import ShapedBody
from gateway.api.reference.examples import CONVERSATION, MODEL, PROMPT, QUESTION, REQUEST_ID
from gateway.api.reference.fields import (
    AllowedTokenIds,
    AskedModel,
    BadWords,
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
)
from gateway.engine import FinishReason

TokenLimit = Annotated[int, Meta(ge=1, le=2**31)]
WaitSeconds = Annotated[float, Meta(gt=0, le=86_400)]
ModelName = Annotated[str, Meta(description="The model's own name.", examples=[MODEL])]
RequestId = Annotated[
    str,
    Meta(description="The request's id, also in the header `x-request-id`.", examples=[REQUEST_ID]),
]
StopFound = Annotated[str | int | None, Meta(description="The stop text or token that ended it.", examples=[None])]


class ChatMessage(Struct, frozen=True):
    """One turn of a conversation."""

    role: Annotated[Literal["system", "user", "assistant"], Meta(description="Who said it.", examples=["user"])]
    content: Annotated[str, Meta(description="What was said.", examples=[QUESTION])]


class GenerateBody(ShapedBody, frozen=True, kw_only=True):
    """A text to go on with, or a conversation to answer; exactly one of `prompt` and `messages`."""

    route: ClassVar[str] = "/v1/generate"

    prompt: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="A raw text to go on with; never put through a chat template.",
            examples=[PROMPT],
        ),
    ] = None
    messages: Annotated[
        Annotated[tuple[ChatMessage, ...], Meta(min_length=1, max_length=2_048)] | None,
        Meta(
            description="A conversation, put through the model's own chat template.",
            examples=[CONVERSATION],
        ),
    ] = None
    model: AskedModel = None
    stream: Annotated[bool, Meta(description="Send the answer as Server-Sent Events while it is made.")] = False
    return_full_text: Annotated[bool, Meta(description="Begin `generated_text` with the prompt.")] = True
    max_length: Annotated[
        TokenLimit | None,
        Meta(
            description="Tokens of prompt and answer together; not with `max_new_tokens`. Left out: no such limit.",
            examples=[64],
        ),
    ] = None
    max_new_tokens: Annotated[
        TokenLimit | None,
        Meta(
            description="Tokens of the answer; not with `max_length`. Left out: what the context has left.",
            examples=[16],
        ),
    ] = None
    min_new_tokens: Annotated[
        Annotated[int, Meta(ge=0, le=2**31)] | None,
        Meta(description="Tokens before the answer may end by itself or by a stop. Left out: 0.", examples=[4]),
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
    ignore_eos: IgnoreEos = None
    timeout: Annotated[
        WaitSeconds | None,
        Meta(
            description="Seconds that all may take; then the answer ends as it is. The header X-Request-Timeout goes"
            " before it. Left out, and at most: `server.request_seconds`.",
            examples=[30],
        ),
    ] = None
    queue_timeout: Annotated[
        WaitSeconds | None,
        Meta(
            description="Seconds to wait for a place. Left out, and at most: `admission.queue_seconds`.", examples=[5]
        ),
    ] = None
    first_token_timeout: Annotated[
        WaitSeconds | None,
        Meta(
            description="Seconds until the first token. Left out, and at most: `admission.first_token_seconds`.",
            examples=[5],
        ),
    ] = None
    priority: Annotated[
        Annotated[int, Meta(ge=-100, le=100)] | None,
        Meta(
            description="Higher is served sooner. Left out, and at most: what the key allows, without keys 0.",
            examples=[0],
        ),
    ] = None


class PromptTokensDetails(Struct, frozen=True):
    """Where the prompt's tokens came from."""

    cached_tokens: Annotated[int, Meta(description="Tokens that did not have to be computed again.", examples=[0])]


class UsageBody(Struct, frozen=True):
    """Tokens that a generation used."""

    prompt_tokens: Annotated[int, Meta(description="Tokens of the prompt.", examples=[5])]
    completion_tokens: Annotated[int, Meta(description="Tokens of the answer.", examples=[3])]
    total_tokens: Annotated[int, Meta(description="Both together.", examples=[8])]
    prompt_tokens_details: PromptTokensDetails


class Timings(Struct, frozen=True):
    """Where the time went, in seconds."""

    queue: Annotated[float, Meta(description="Waiting for a place.", examples=[0.0])]
    prefill: Annotated[float, Meta(description="Reading the prompt.", examples=[0.021])]
    decode: Annotated[float, Meta(description="Making the answer.", examples=[0.093])]


class GenerateReply(Struct, frozen=True, kw_only=True):
    """A whole answer."""

    generated_text: Annotated[
        str,
        Meta(
            description="The answer, behind the prompt where `return_full_text` is true.",
            examples=[f"{PROMPT} Paris."],
        ),
    ]
    prompt: Annotated[str | None, Meta(description="The prompt, where there was a raw one.", examples=[PROMPT])]
    model: ModelName
    id: RequestId
    finish_reason: FinishReason
    stop: StopFound
    usage: UsageBody
    timings: Timings


class TextFrame(Struct, frozen=True):
    """A piece of a streamed answer."""

    text: Annotated[
        str, Meta(description="The piece; all pieces joined are the whole `generated_text`.", examples=[" Paris"])
    ]


class LastFrame(Struct, frozen=True, kw_only=True):
    """The last frame of a streamed answer before `[DONE]`."""

    text: Annotated[Literal[""], Meta(description="Always empty.")] = ""
    finish_reason: FinishReason
    stop: StopFound
    model: ModelName
    id: RequestId
    usage: UsageBody
    timings: Timings
    x_structured: StructuredAnswer = UNSET
