"""How OpenAI's dialect asks a model to think: its own word, and those of vLLM, Qwen, llama.cpp and OpenRouter; pure."""

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta, Struct

from gateway.api.exchange.thinking import EffortWord, ThinkingWish, combine, wish_budget, wish_effort
from gateway.api.reference.fields import NoEffect
from gateway.engine import InvalidRequest

# What templates call the switch.
_SWITCHES = ("enable_thinking", "thinking")
# The words of Qwen, vLLM and llama.cpp for the tokens to think in.
BUDGETS = ("thinking_budget", "thinking_token_budget", "thinking_budget_tokens", "reasoning_budget")
_budgets = attrgetter(*BUDGETS)
_Tokens = Annotated[int, Meta(ge=-1, le=2**31)]
ThinkingTokens = Annotated[
    _Tokens | None,
    Meta(
        description="Tokens to think in at most; 0 is not to think, -1 as many as the model likes. Left out: that.",
        examples=[256],
    ),
]
EffortField = Annotated[
    EffortWord | None,
    Meta(
        description="How hard to think first. `none` is not to; like `minimal`, every model takes it. Left out: as the"
        " model does.",
        examples=["none"],
    ),
]
EnableThinking = Annotated[
    bool | None, Meta(description="Whether to think first, in Qwen's words. Left out: as the model does.")
]
IncludeReasoning = Annotated[bool | None, Meta(description="Tell what the model thought. Left out: true.")]


class ThinkingSwitch(Struct, frozen=True):
    """Whether to think first, as Anthropic, DeepSeek and GLM say it."""

    type: Annotated[
        Literal["enabled", "disabled", "adaptive", "auto"],
        Meta(description="To think, not to, or as the model likes.", examples=["disabled"]),
    ]
    budget_tokens: Annotated[_Tokens | None, Meta(description="Tokens to think in at most.", examples=[256])] = None
    clear_thinking: NoEffect = None
    display: NoEffect = None


class ReasoningOptions(Struct, frozen=True):
    """How to think first, as OpenRouter says it."""

    effort: Annotated[EffortWord | None, Meta(description="As `reasoning_effort`.", examples=["none"])] = None
    max_tokens: Annotated[_Tokens | None, Meta(description="As `thinking_budget`.", examples=[256])] = None
    enabled: Annotated[bool | None, Meta(description="As `enable_thinking`.")] = None
    exclude: Annotated[bool | None, Meta(description="Do not tell what the model thought.")] = None
    summary: NoEffect = None


class ThinkingFields(Protocol):
    """The fields of a body that are about thinking."""

    @property
    def reasoning_effort(self) -> EffortWord | None:
        """The word of OpenAI."""
        ...

    @property
    def thinking(self) -> ThinkingSwitch | None:
        """The word of Anthropic, DeepSeek and GLM."""
        ...

    @property
    def reasoning(self) -> ReasoningOptions | None:
        """The word of OpenRouter."""
        ...

    @property
    def enable_thinking(self) -> bool | None:
        """The word of Qwen."""
        ...

    @property
    def thinking_budget(self) -> int | None:
        """The word of Qwen."""
        ...

    @property
    def thinking_token_budget(self) -> int | None:
        """The word of vLLM."""
        ...

    @property
    def thinking_budget_tokens(self) -> int | None:
        """The word of llama.cpp."""
        ...

    @property
    def reasoning_budget(self) -> int | None:
        """Another one of llama.cpp."""
        ...

    @property
    def include_reasoning(self) -> bool | None:
        """Whether the thoughts are told."""
        ...

    @property
    def chat_template_kwargs(self) -> dict[str, Any] | None:
        """Variables of the template, of which some switch thinking."""
        ...


def to_thinking(body: ThinkingFields) -> ThinkingWish:
    """Make one wish of all words; raise `InvalidRequest` for two that contradict each other."""
    return combine(_wishes(body))


def to_template_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of the template but for a switch that turns thinking off, which every model can do.

    Raises `InvalidRequest` for numbers of more than 64 bits, which no process is told.
    """
    try:
        msgspec.msgpack.encode(given)
    except OverflowError as error:
        what = "a number of the template's variables has more than 64 bits"
        raise InvalidRequest(what, param="chat_template_kwargs") from error
    return {name: value for name, value in given.items() if name not in _SWITCHES or value is not False}


def thinking_path(capability: str, body: ThinkingFields) -> str | None:
    """Say which word asks for a capability of thinking, where one does."""
    return next((wish.param for wish in _wishes(body) if wish.asks_for(capability)), None)


def shows_thoughts(body: ThinkingFields) -> bool:
    """Tell whether the client wants to read what the model thought."""
    return body.include_reasoning is not False and not (body.reasoning and body.reasoning.exclude)


def _wishes(body: ThinkingFields) -> Iterator[ThinkingWish]:
    """Yield what each word that is given asks for."""
    if body.reasoning_effort is not None:
        yield wish_effort("reasoning_effort", body.reasoning_effort)
    if body.enable_thinking is not None:
        yield ThinkingWish("enable_thinking", reasoning=body.enable_thinking)
    for name, tokens in zip(BUDGETS, _budgets(body), strict=True):
        if tokens is not None:
            yield wish_budget(name, tokens)
    if body.thinking is not None:
        yield from _wishes_of_switch(body.thinking)
    if body.reasoning is not None:
        yield from _wishes_of_options(body.reasoning)
    if body.chat_template_kwargs is not None:
        for name in _SWITCHES:
            if body.chat_template_kwargs.get(name) is False:
                yield ThinkingWish(f"chat_template_kwargs.{name}", reasoning=False)


def _wishes_of_switch(switch: ThinkingSwitch) -> Iterator[ThinkingWish]:
    yield ThinkingWish("thinking", reasoning={"enabled": True, "disabled": False}.get(switch.type))
    if switch.budget_tokens is not None:
        yield wish_budget("thinking.budget_tokens", switch.budget_tokens)


def _wishes_of_options(options: ReasoningOptions) -> Iterator[ThinkingWish]:
    if options.effort is not None:
        yield wish_effort("reasoning.effort", options.effort)
    if options.enabled is not None:
        yield ThinkingWish("reasoning.enabled", reasoning=options.enabled)
    if options.max_tokens is not None:
        yield wish_budget("reasoning.max_tokens", options.max_tokens)
