"""What `/v1/chat/completions` and `/v1/completions` answer, whole and in chunks."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.api.exchange.constraint import StructuredAnswer
from gateway.api.openai.timings import TokenTimings
from gateway.api.reference.examples import MODEL, REQUEST_ID

ReplyModel = Annotated[str, Meta(description="The model's own name.", examples=[MODEL])]
Created = Annotated[int, Meta(description="When it began, in seconds since 1970.", examples=[1_767_225_600])]
Index = Annotated[int, Meta(description="The number of the answer.", examples=[0])]
Fingerprint = Annotated[
    str | None,
    Meta(
        description="Another one means other weights or another engine: a seed may mean another answer.",
        examples=["fp_3ba1c9a1d0"],
    ),
]
ChatReason = Literal["stop", "length", "tool_calls", "function_call"]
TextReason = Literal["stop", "length"]
FINISH_REASON = Meta(
    description="Why the answer ended: by itself or a stop, cut off at its length or by the time, or with calls.",
    examples=["stop"],
)
LogprobNumber = Annotated[
    float, Meta(description="The natural logarithm of its probability; -9999 is none at all.", examples=[-0.1])
]
TokenText = Annotated[str, Meta(description="The token's text.", examples=[" Paris"])]
TokenBytes = Annotated[
    list[int] | None,
    Meta(
        description="Its bytes, of a part of a character too; null where the engine does not say them.",
        examples=[[32, 80, 97, 114, 105, 115]],
    ),
]


_CALLED = {"name": "get_weather", "arguments": '{"city": "Paris"}'}


TokenIds = Annotated[
    list[int] | UnsetType,
    Meta(description="The ids of its tokens, the last one's too; only with `return_token_ids`.", examples=[[7042, 30]]),
]
PromptTokenIds = Annotated[
    list[int] | UnsetType,
    Meta(
        description="The ids of the prompt's tokens, in a stream in the first chunk of an answer; only with"
        " `return_token_ids`.",
        examples=[[504, 3575, 282, 4649, 314]],
    ),
]
ToldTimings = Annotated[
    TokenTimings | UnsetType, Meta(description="How fast the answer is made; only with `timings_per_token`.")
]


class CachedTokens(Struct, frozen=True):
    """Where the prompt's tokens came from."""

    cached_tokens: Annotated[int, Meta(description="Tokens that did not have to be computed again.", examples=[0])] = 0
    audio_tokens: Annotated[int, Meta(description="Always 0.", examples=[0])] = 0


class AnswerTokens(Struct, frozen=True):
    """What the answer's tokens were for."""

    reasoning_tokens: Annotated[int, Meta(description="Tokens of thought.", examples=[0])] = 0
    audio_tokens: Annotated[int, Meta(description="Always 0.", examples=[0])] = 0
    accepted_prediction_tokens: Annotated[int, Meta(description="Always 0.", examples=[0])] = 0
    rejected_prediction_tokens: Annotated[int, Meta(description="Always 0.", examples=[0])] = 0


class CompletionUsage(Struct, frozen=True):
    """What all answers of a request used."""

    prompt_tokens: Annotated[int, Meta(description="Tokens of the prompts, each counted once.", examples=[5])]
    completion_tokens: Annotated[int, Meta(description="Tokens of all answers.", examples=[3])]
    total_tokens: Annotated[int, Meta(description="Both together.", examples=[8])]
    prompt_tokens_details: CachedTokens
    completion_tokens_details: AnswerTokens


class TopLogprob(Struct, frozen=True):
    """A token that was possible."""

    token: TokenText
    logprob: LogprobNumber
    bytes: TokenBytes


class ChatLogprob(Struct, frozen=True):
    """A token, and what was possible in its place."""

    token: TokenText
    logprob: LogprobNumber
    bytes: TokenBytes
    top_logprobs: Annotated[
        list[TopLogprob], Meta(description="The likeliest tokens in its place, as many as were asked for.")
    ]


class ChatLogprobs(Struct, frozen=True):
    """How likely the tokens of an answer were."""

    content: Annotated[list[ChatLogprob], Meta(description="The tokens.")]
    refusal: Annotated[None, Meta(description="Always null.", examples=[None])] = None


class TextLogprobs(Struct, frozen=True):
    """How likely the tokens of a text were, a list for each thing there is to know."""

    text_offset: Annotated[list[int], Meta(description="Where each token begins in the text.", examples=[[0]])]
    token_logprobs: Annotated[
        list[float | None], Meta(description="Null for the first token of a prompt.", examples=[[-0.1]])
    ]
    tokens: Annotated[list[str], Meta(description="Their texts.", examples=[[" Paris"]])]
    top_logprobs: Annotated[
        list[dict[str, float] | None],
        Meta(description="The token and the likeliest in its place.", examples=[[{" Paris": -0.1}]]),
    ]


class PromptLogprob(Struct, frozen=True):
    """A token of the prompt, or one that was possible in its place."""

    logprob: LogprobNumber
    rank: Annotated[
        int | None, Meta(description="Its place among the likeliest; null for a token that is not.", examples=[1])
    ]
    decoded_token: TokenText


PromptLogprobs = Annotated[
    list[dict[str, PromptLogprob] | None] | UnsetType,
    Meta(
        description="For each token of the prompt, by their ids, itself and the likeliest; only where asked for.",
        examples=[[None, {"260": {"logprob": -0.1, "rank": 1, "decoded_token": " the"}}]],
    ),
]


class ReplyFunction(Struct, frozen=True):
    """A function, and the arguments of a call."""

    arguments: Annotated[str, Meta(description="JSON text, or a piece of it.", examples=['{"city": "Paris"}'])]
    name: Annotated[str | UnsetType, Meta(description="The function's name.", examples=["get_weather"])] = UNSET


class ReplyCall(Struct, frozen=True):
    """A call of a tool."""

    id: Annotated[str, Meta(description="The call's id.", examples=["call_1"])]
    function: ReplyFunction
    type: Annotated[Literal["function"], Meta(description="Always `function`.")] = "function"


class ReplyMessage(Struct, frozen=True, kw_only=True):
    """What the model said."""

    role: Annotated[Literal["assistant"], Meta(description="Always `assistant`.")] = "assistant"
    content: Annotated[str | None, Meta(description="The answer; null where it only calls.", examples=["Paris."])]
    refusal: Annotated[None, Meta(description="Always null.", examples=[None])] = None
    annotations: Annotated[list[str], Meta(max_length=0, description="Always empty.", examples=[[]])] = []
    tool_calls: Annotated[
        list[ReplyCall] | UnsetType, Meta(description="The calls, if there are any.", examples=[[]])
    ] = UNSET
    function_call: Annotated[
        ReplyFunction | UnsetType, Meta(description="The call, where `functions` were given.", examples=[_CALLED])
    ] = UNSET
    reasoning_content: Annotated[
        str | UnsetType, Meta(description="What the model thought first, if it did.", examples=["Easy."])
    ] = UNSET
    reasoning: Annotated[str | UnsetType, Meta(description="The same as `reasoning_content`.", examples=["Easy."])] = (
        UNSET
    )


class ChatChoice(Struct, frozen=True):
    """One answer."""

    index: Index
    message: ReplyMessage
    logprobs: Annotated[ChatLogprobs | None, Meta(description="Null unless asked for.", examples=[None])]
    finish_reason: Annotated[ChatReason, FINISH_REASON]
    token_ids: TokenIds = UNSET


class ChatReply(Struct, frozen=True, kw_only=True):
    """A whole answer to a conversation."""

    id: Annotated[str, Meta(description="The request's id.", examples=[f"chatcmpl-{REQUEST_ID}"])]
    object: Annotated[Literal["chat.completion"], Meta(description="Always `chat.completion`.")] = "chat.completion"
    created: Created
    model: ReplyModel
    choices: Annotated[list[ChatChoice], Meta(description="The answers.")]
    usage: CompletionUsage
    service_tier: Annotated[Literal["default"], Meta(description="Always `default`.")] = "default"
    system_fingerprint: Fingerprint
    metadata: Annotated[
        dict[str, str] | UnsetType, Meta(description="As it was sent, if it was.", examples=[{"batch": "7"}])
    ] = UNSET
    prompt_logprobs: PromptLogprobs = UNSET
    prompt_token_ids: PromptTokenIds = UNSET
    timings: ToldTimings = UNSET


class CallPiece(Struct, frozen=True, kw_only=True):
    """A piece of a call; the first has its id and its name."""

    index: Annotated[int, Meta(description="The number of the call.", examples=[0])]
    id: Annotated[str | UnsetType, Meta(description="The call's id.", examples=["call_1"])] = UNSET
    type: Annotated[Literal["function"] | UnsetType, Meta(description="Always `function`.")] = UNSET
    function: ReplyFunction


class ChunkDelta(Struct, frozen=True, kw_only=True):
    """The new part of a message."""

    role: Annotated[Literal["assistant"] | UnsetType, Meta(description="In the first chunk of an answer.")] = UNSET
    content: Annotated[str | UnsetType, Meta(description="More of the text.", examples=[" Paris"])] = UNSET
    refusal: Annotated[UnsetType | None, Meta(description="Always null.", examples=[None])] = UNSET
    tool_calls: Annotated[list[CallPiece] | UnsetType, Meta(description="More of a call.", examples=[[]])] = UNSET
    function_call: Annotated[
        ReplyFunction | UnsetType, Meta(description="More of the call of `functions`.", examples=[_CALLED])
    ] = UNSET
    reasoning_content: Annotated[
        str | UnsetType, Meta(description="More of what the model thinks first.", examples=["Easy."])
    ] = UNSET
    reasoning: Annotated[str | UnsetType, Meta(description="The same as `reasoning_content`.", examples=["Easy."])] = (
        UNSET
    )


class ChunkChoice(Struct, frozen=True):
    """The new part of one choice."""

    index: Index
    delta: ChunkDelta
    logprobs: Annotated[ChatLogprobs | None, Meta(description="Null unless asked for.", examples=[None])] = None
    finish_reason: Annotated[ChatReason | None, FINISH_REASON] = None
    x_structured: StructuredAnswer = UNSET
    token_ids: TokenIds = UNSET


class ChatChunk(Struct, frozen=True, kw_only=True):
    """A piece of a streamed answer to a conversation."""

    id: Annotated[str, Meta(description="The request's id.", examples=[f"chatcmpl-{REQUEST_ID}"])]
    object: Annotated[Literal["chat.completion.chunk"], Meta(description="Always `chat.completion.chunk`.")] = (
        "chat.completion.chunk"
    )
    created: Created
    model: ReplyModel
    service_tier: Annotated[Literal["default"], Meta(description="Always `default`.")] = "default"
    system_fingerprint: Fingerprint
    choices: Annotated[list[ChunkChoice], Meta(description="The answer at hand; none where the usage is told.")]
    usage: Annotated[
        CompletionUsage | UnsetType | None,
        Meta(
            description="With `include_usage`: null but in the last chunk. With `continuous_usage_stats` too: what the"
            " answer used so far.",
            examples=[None],
        ),
    ] = UNSET
    prompt_token_ids: PromptTokenIds = UNSET
    timings: ToldTimings = UNSET


class TextChoice(Struct, frozen=True, kw_only=True):
    """One answer, or what is new of it."""

    index: Index
    text: Annotated[str, Meta(description="The text; behind its prompt with `echo`.", examples=[" Paris."])]
    logprobs: Annotated[TextLogprobs | None, Meta(description="Null unless asked for.", examples=[None])]
    finish_reason: Annotated[TextReason | None, FINISH_REASON]
    prompt_logprobs: PromptLogprobs = UNSET
    x_structured: StructuredAnswer = UNSET
    token_ids: TokenIds = UNSET
    prompt_token_ids: PromptTokenIds = UNSET


class CompletionReply(Struct, frozen=True, kw_only=True):
    """A whole answer to a completion, or a piece of a streamed one."""

    id: Annotated[str, Meta(description="The request's id.", examples=[f"cmpl-{REQUEST_ID}"])]
    object: Annotated[Literal["text_completion"], Meta(description="Always `text_completion`.")] = "text_completion"
    created: Created
    model: ReplyModel
    system_fingerprint: Fingerprint
    choices: Annotated[list[TextChoice], Meta(description="The answers; none where a stream tells the usage.")]
    usage: Annotated[
        CompletionUsage | UnsetType | None,
        Meta(description="In a stream only with `include_usage`: null but in the last chunk.", examples=[None]),
    ] = UNSET
    timings: ToldTimings = UNSET
