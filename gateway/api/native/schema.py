"""What `/v1/generate` and `/v1/models` take and give."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.engine import FinishReason, Health

Count = Annotated[int, Meta(ge=1, le=2**31)]
Stop = Annotated[str, Meta(min_length=1, max_length=512)]


class ChatMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Annotated[Literal["system", "user", "assistant"], Meta(description="Who said it.")]
    content: Annotated[str, Meta(description="What was said.", examples=["What is the capital of France?"])]


class GenerateBody(Struct, frozen=True, kw_only=True):
    """A text to go on with, or a conversation to answer; exactly one of `prompt` and `messages`."""

    prompt: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="A raw text to go on with; never put through a chat template.",
            examples=["The capital of France is"],
        ),
    ] = None
    messages: Annotated[
        Annotated[tuple[ChatMessage, ...], Meta(min_length=1, max_length=2_048)] | None,
        Meta(description="A conversation, put through the model's own chat template."),
    ] = None
    model: Annotated[
        Annotated[str, Meta(min_length=1, max_length=512)] | None,
        Meta(description="The model's name; the default model where it is left out."),
    ] = None
    stream: Annotated[bool, Meta(description="Send the answer as Server-Sent Events while it is made.")] = False
    return_full_text: Annotated[bool, Meta(description="Begin `generated_text` with the prompt.")] = True
    max_length: Annotated[Count | None, Meta(description="Tokens of prompt and answer together.")] = None
    max_new_tokens: Annotated[Count | None, Meta(description="Tokens of the answer.", examples=[16])] = None
    min_new_tokens: Annotated[
        Annotated[int, Meta(ge=0, le=2**31)] | None,
        Meta(description="Tokens before the answer may end by itself or by a stop."),
    ] = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=2)] | None,
        Meta(description="0 always takes the likeliest token; higher is more varied.", examples=[0]),
    ] = None
    top_p: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="Draw from the likeliest tokens that have this probability together; 1 is off."),
    ] = None
    top_k: Annotated[
        Annotated[int, Meta(ge=0, le=2**31)] | None, Meta(description="Draw from this many tokens; 0 is off.")
    ] = None
    min_p: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        Meta(description="Leave out tokens less likely than this share of the likeliest one's probability."),
    ] = None
    repetition_penalty: Annotated[
        Annotated[float, Meta(gt=0, le=10)] | None,
        Meta(description="Above 1 makes tokens of the prompt and the answer less likely to come again."),
    ] = None
    presence_penalty: Annotated[
        Annotated[float, Meta(ge=-2, le=2)] | None,
        Meta(description="Taken from the logit of every token that the answer holds already."),
    ] = None
    frequency_penalty: Annotated[
        Annotated[float, Meta(ge=-2, le=2)] | None,
        Meta(description="Taken from a token's logit once for every time that the answer holds it."),
    ] = None
    logit_bias: Annotated[
        Annotated[
            dict[Annotated[int, Meta(ge=0, le=2**31)], Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=1_024)
        ]
        | None,
        Meta(description="Token ids, and what is added to their logits."),
    ] = None
    seed: Annotated[
        Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None,
        Meta(description="The same seed gives the same answer, whatever else runs."),
    ] = None
    stop: Annotated[
        Stop | Annotated[tuple[Stop, ...], Meta(max_length=4)] | None,
        Meta(description="Up to four texts that end the answer; they are cut off."),
    ] = None
    stop_token_ids: Annotated[
        Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31)], ...], Meta(max_length=1_024)] | None,
        Meta(description="Tokens that end the answer; they are not shown."),
    ] = None
    ignore_eos: Annotated[
        bool | None, Meta(description="Go on where the model would end, up to the number of tokens.")
    ] = None


class PromptTokensDetails(Struct, frozen=True):
    """Where the prompt's tokens came from."""

    cached_tokens: Annotated[int, Meta(description="Tokens that did not have to be computed again.")]


class UsageBody(Struct, frozen=True):
    """What a generation used."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class Timings(Struct, frozen=True):
    """Where the time went, in seconds."""

    queue: Annotated[float, Meta(description="Waiting for a place.")]
    prefill: Annotated[float, Meta(description="Reading the prompt.")]
    decode: Annotated[float, Meta(description="Making the answer.")]


class GenerateReply(Struct, frozen=True, kw_only=True):
    """A whole answer."""

    generated_text: Annotated[str, Meta(examples=["The capital of France is Paris."])]
    prompt: Annotated[str | None, Meta(description="The prompt, where there was a raw one.")]
    model: Annotated[str, Meta(examples=["smollm2-135m-instruct"])]
    id: Annotated[str, Meta(description="The request's id, also in the header `x-request-id`.")]
    finish_reason: Annotated[FinishReason, Meta(description="Why the answer ended.")]
    stop: Annotated[str | int | None, Meta(description="The stop text or token that ended it.")]
    usage: UsageBody
    timings: Timings


class TextFrame(Struct, frozen=True):
    """A piece of a streamed answer."""

    text: str


class LastFrame(Struct, frozen=True, kw_only=True):
    """The last frame of a streamed answer before `[DONE]`."""

    text: Literal[""] = ""
    finish_reason: FinishReason
    stop: str | int | None
    model: str
    id: str
    usage: UsageBody
    timings: Timings


class ModelObject(Struct, frozen=True, kw_only=True):
    """A served model."""

    id: str
    object: Literal["model"] = "model"
    created: Annotated[int, Meta(description="When the service started, in seconds since 1970.")]
    owned_by: str
    aliases: tuple[str, ...]
    engine: Annotated[str, Meta(description="The name of the engine that serves it.")]
    loaded: bool
    context_window: Annotated[int, Meta(description="Tokens that prompt and answer may have together.")]
    capabilities: Annotated[tuple[str, ...], Meta(description="What it can be asked for.")]
    device: str
    dtype: str
    note: str


class ModelList(Struct, frozen=True):
    """The served models, in the shape that OpenAI's clients read."""

    object: Literal["list"]
    data: list[ModelObject]


class ModelState(Struct, frozen=True):
    """A model after it was loaded or unloaded."""

    model: str
    engine: str
    status: Health
    loaded: bool
    seconds: Annotated[float, Meta(description="How long it took.")] | UnsetType = UNSET
