"""Bodies of `/v1/chat/completions` and `/v1/completions`."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from gateway.api.http.unknown_fields import ApiBody
from gateway.api.openai.messages import InputMessage
from gateway.api.openai.shared import (
    Alternatives,
    Choices,
    CommonBody,
    NonEmptyText,
    TokenCountLimit,
    TokenId,
)
from gateway.api.openai.thinking import (
    EffortField,
    EnableThinking,
    IncludeReasoning,
    ReasoningOptions,
    ThinkingSwitch,
    ThinkingTokens,
)
from gateway.api.openai.tools import LegacyFunctions, LegacyMode, ParallelCalls, ToolMode, Tools
from gateway.api.reference.examples import CONVERSATION, PROMPT
from gateway.api.reference.fields import Elsewhere, Label

MOST_PROMPTS = 256


ChatMetadata = Annotated[dict[Annotated[str, Meta(max_length=64)], Label], Meta(max_length=16)]


class ChatCompletionBody(CommonBody, frozen=True, kw_only=True):
    """A conversation to answer."""

    route: ClassVar[str] = "/v1/chat/completions"

    messages: Annotated[
        tuple[InputMessage, ...],
        Meta(
            min_length=1,
            max_length=2_048,
            description="The conversation, put through the model's own chat template.",
            examples=[CONVERSATION],
        ),
    ]
    max_completion_tokens: Annotated[
        TokenCountLimit | None,
        Meta(
            description="Tokens of the answer; 0 only with `prompt_logprobs`. Left out: what the context has left.",
            examples=[16],
        ),
    ] = None
    max_tokens: Annotated[
        TokenCountLimit | None,
        Meta(description="The older word for `max_completion_tokens`. Left out: that one.", examples=[16]),
    ] = None
    logprobs: Annotated[bool | None, Meta(description="Tell how likely each token was. Left out: false.")] = None
    top_logprobs: Annotated[
        Alternatives | None,
        Meta(description="And so many alternatives; only with `logprobs`. Left out: 0.", examples=[2]),
    ] = None
    tools: Tools = None
    tool_choice: ToolMode = None
    parallel_tool_calls: ParallelCalls = None
    functions: LegacyFunctions = None
    function_call: LegacyMode = None
    reasoning_effort: EffortField = None
    thinking: Annotated[
        ThinkingSwitch | None,
        Meta(
            description="Whether to think first, in other words. Left out: as the model does.",
            examples=[{"type": "disabled"}],
        ),
    ] = None
    reasoning: Annotated[
        ReasoningOptions | None,
        Meta(
            description="How to think first, in other words. Left out: as the model does.",
            examples=[{"effort": "none"}],
        ),
    ] = None
    enable_thinking: EnableThinking = None
    thinking_budget: ThinkingTokens = None
    thinking_token_budget: ThinkingTokens = None
    thinking_budget_tokens: ThinkingTokens = None
    reasoning_budget: ThinkingTokens = None
    include_reasoning: IncludeReasoning = None
    metadata: Annotated[
        ChatMetadata | None,
        Meta(
            description="Said again in the whole answer, and stored with it. Left out: none.", examples=[{"batch": "7"}]
        ),
    ] = None
    store: Annotated[
        bool | None,
        Meta(description="Store the answer, and what it answers, for its caller alone. Left out: false."),
    ] = None
    service_tier: Annotated[
        Literal["auto", "default", "flex", "scale", "priority", "fast"] | None,
        Meta(
            description="Taken; there is one tier, and the answer says so: `default`. Left out: that.",
            examples=["auto"],
        ),
    ] = None
    safety_identifier: Annotated[
        Label | None, Meta(description="Taken like `user`. Left out: nothing.", examples=["u1"])
    ] = None
    prompt_cache_key: Annotated[
        Label | None,
        Meta(description="Taken; equal prefixes are found without it. Left out: nothing.", examples=["support"]),
    ] = None
    continue_final_message: Annotated[
        bool | None,
        Meta(
            description="Go on with the last message, which is the assistant's, and do not repeat it. Left out: false."
        ),
    ] = None
    add_generation_prompt: Annotated[
        bool | None,
        Meta(
            description="Whether the template opens a turn for the answer; not with `continue_final_message`. Left out:"
            " true, unless the last message is continued."
        ),
    ] = None
    chat_template_kwargs: Annotated[
        dict[str, Any] | None,
        Meta(
            description="Further variables of the model's chat template; one that it does not have is refused, but"
            " for a switch that turns thinking off. Left out: none.",
            examples=[{"enable_thinking": False}],
        ),
    ] = None
    echo: Annotated[
        bool | None,
        Meta(
            description="Begin the answer with the last message, where that is the assistant's too or no turn is opened"
            " for the answer. Left out: false."
        ),
    ] = None
    add_special_tokens: Elsewhere = None
    audio: Elsewhere = None
    modalities: Elsewhere = None
    moderation: Elsewhere = None
    prediction: Elsewhere = None
    prompt_cache_options: Elsewhere = None
    prompt_cache_retention: Elsewhere = None
    verbosity: Elsewhere = None
    web_search_options: Elsewhere = None


class CompletionBody(CommonBody, frozen=True, kw_only=True):
    """Texts to go on with."""

    route: ClassVar[str] = "/v1/completions"

    prompt: Annotated[
        NonEmptyText | tuple[NonEmptyText | TokenId | tuple[TokenId, ...], ...],
        Meta(
            description="A text or its tokens, or a list of either: prompt i has the choices from i * n on.",
            examples=[PROMPT, [PROMPT, "Once upon a time"]],
        ),
    ]
    max_tokens: Annotated[
        TokenCountLimit | None,
        Meta(
            description="Tokens of each answer; 0 only with `echo` or `prompt_logprobs`. Left out: what the model's own"
            " generation config says, else 16.",
            examples=[16],
        ),
    ] = None
    echo: Annotated[bool | None, Meta(description="Begin each answer with its prompt. Left out: false.")] = None
    logprobs: Annotated[
        Alternatives | None,
        Meta(description="Tell how likely each token was, and so many alternatives. Left out: do not.", examples=[1]),
    ] = None
    best_of: Annotated[
        Choices | None,
        Meta(
            description="Make so many answers and give the `n` whose tokens are likeliest on average; not with"
            " `stream`. Left out: `n`.",
            examples=[1],
        ),
    ] = None
    add_special_tokens: Annotated[
        bool | None,
        Meta(description="Begin a text with what the tokenizer adds, as the beginning of sequence. Left out: true."),
    ] = None
    suffix: Elsewhere = None


class CompletionChange(ApiBody, frozen=True, kw_only=True):
    """What becomes of a stored chat completion."""

    route: ClassVar[str] = "/v1/chat/completions/{completion_id}"
    generates: ClassVar[bool] = False

    metadata: Annotated[ChatMetadata, Meta(description="In the place of what it had.", examples=[{"batch": "7"}])]


completion_change_decoder = msgspec.json.Decoder(CompletionChange)
chat_decoder = msgspec.json.Decoder(ChatCompletionBody)
completion_decoder = msgspec.json.Decoder(CompletionBody)
