"""What `/v1/generate` and `/v1/models` take and give."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.api.reference.fields import (
    FrequencyPenalty,
    IgnoreEos,
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
from gateway.engine import FinishReason, Health

_MODEL = "smollm2-135m-instruct"
_PROMPT = "The capital of France is"

Count = Annotated[int, Meta(ge=1, le=2**31)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
ServedModel = Annotated[str, Meta(description="The model's own name.", examples=[_MODEL])]
RequestId = Annotated[
    str,
    Meta(description="The request's id, also in the header `x-request-id`.", examples=["01KDVXK0M4Q2E6S9ZB3H7TJN5R"]),
]
StopFound = Annotated[str | int | None, Meta(description="The stop text or token that ended it.", examples=[None])]


class ChatMessage(Struct, frozen=True):
    """One turn of a conversation."""

    role: Annotated[Literal["system", "user", "assistant"], Meta(description="Who said it.", examples=["user"])]
    content: Annotated[str, Meta(description="What was said.", examples=["What is the capital of France?"])]


class GenerateBody(Struct, frozen=True, kw_only=True):
    """A text to go on with, or a conversation to answer; exactly one of `prompt` and `messages`."""

    prompt: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="A raw text to go on with; never put through a chat template.",
            examples=[_PROMPT],
        ),
    ] = None
    messages: Annotated[
        Annotated[tuple[ChatMessage, ...], Meta(min_length=1, max_length=2_048)] | None,
        Meta(
            description="A conversation, put through the model's own chat template.",
            examples=[[{"role": "user", "content": "What is the capital of France?"}]],
        ),
    ] = None
    model: Annotated[
        Annotated[str, Meta(min_length=1, max_length=512)] | None,
        Meta(
            description="A model's name, its full id or its engine's name; left out: the first engine's model.",
            examples=[_MODEL],
        ),
    ] = None
    stream: Annotated[bool, Meta(description="Send the answer as Server-Sent Events while it is made.")] = False
    return_full_text: Annotated[bool, Meta(description="Begin `generated_text` with the prompt.")] = True
    max_length: Annotated[
        Count | None,
        Meta(
            description="Tokens of prompt and answer together; not with `max_new_tokens`. Left out: no such limit.",
            examples=[64],
        ),
    ] = None
    max_new_tokens: Annotated[
        Count | None,
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
        Annotated[int, Meta(ge=0, le=2**31)] | None,
        Meta(description="Draw from this many of the likeliest tokens. Left out: 0, off.", examples=[40]),
    ] = None
    min_p: MinP = None
    repetition_penalty: RepetitionPenalty = None
    presence_penalty: PresencePenalty = None
    frequency_penalty: FrequencyPenalty = None
    logit_bias: LogitBias = None
    seed: Seed = None
    stop: Stop = None
    stop_token_ids: StopTokenIds = None
    ignore_eos: IgnoreEos = None
    timeout: Annotated[
        Seconds | None,
        Meta(
            description="Seconds that all may take; then the answer ends as it is. The header X-Request-Timeout goes"
            " before it. Left out, and at most: `server.request_seconds`.",
            examples=[30],
        ),
    ] = None
    queue_timeout: Annotated[
        Seconds | None,
        Meta(
            description="Seconds to wait for a place. Left out, and at most: `admission.queue_seconds`.", examples=[5]
        ),
    ] = None
    first_token_timeout: Annotated[
        Seconds | None,
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
    """What a generation used."""

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
            examples=[f"{_PROMPT} Paris."],
        ),
    ]
    prompt: Annotated[str | None, Meta(description="The prompt, where there was a raw one.", examples=[_PROMPT])]
    model: ServedModel
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
    model: ServedModel
    id: RequestId
    usage: UsageBody
    timings: Timings


class ModelObject(Struct, frozen=True, kw_only=True):
    """A served model."""

    id: Annotated[str, Meta(description="The name to give as `model`.", examples=[_MODEL])]
    object: Annotated[Literal["model"], Meta(description="Always `model`.")] = "model"
    created: Annotated[
        int, Meta(description="When the service started, in seconds since 1970.", examples=[1_767_225_600])
    ]
    owned_by: Annotated[str, Meta(description="Who made the model, where that is known.", examples=["HuggingFaceTB"])]
    aliases: Annotated[
        tuple[str, ...], Meta(description="Other names that it answers to.", examples=[[f"HuggingFaceTB/{_MODEL}"]])
    ]
    engine: Annotated[str, Meta(description="The name of the engine that serves it.", examples=["default"])]
    loaded: Annotated[bool, Meta(description="Whether it is in memory.")]
    context_window: Annotated[
        int, Meta(description="Tokens that prompt and answer may have together.", examples=[2_048])
    ]
    capabilities: Annotated[
        tuple[str, ...], Meta(description="What it can be asked for.", examples=[["chat", "completion", "temperature"]])
    ]
    device: Annotated[str, Meta(description="What it runs on.", examples=["cpu"])]
    dtype: Annotated[str, Meta(description="The type of its numbers.", examples=["bfloat16"])]
    note: Annotated[str, Meta(description="What else there is to know of it.", examples=["4-bit weights"])]


class ModelList(Struct, frozen=True):
    """The served models, in the shape that OpenAI's clients read."""

    object: Annotated[Literal["list"], Meta(description="Always `list`.")]
    data: Annotated[list[ModelObject], Meta(description="The models.")]


class ModelState(Struct, frozen=True):
    """A model after it was loaded or unloaded."""

    model: ServedModel
    engine: Annotated[str, Meta(description="The name of the engine that serves it.", examples=["default"])]
    status: Health
    loaded: Annotated[bool, Meta(description="Whether it is in memory now.")]
    seconds: Annotated[float, Meta(description="How long it took.", examples=[1.234])] | UnsetType = UNSET
