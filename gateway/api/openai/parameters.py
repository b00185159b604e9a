"""The table of OpenAI's parameters: what each needs of a model, and what is done with it here.

It is what refuses a parameter, and what `GET /v1/models/{id}/capabilities` shows.
"""

from collections.abc import Iterator

from gateway.api.exchange.constraint import SHAPE_NEEDS, SHAPE_REFUSED, SHAPE_TAKEN
from gateway.api.exchange.dialect import Parameters
from gateway.api.openai.schema import ChatCompletionBody, CompletionBody
from gateway.api.openai.shared import CommonBody
from gateway.api.openai.thinking import BUDGETS
from gateway.engine import Capability, ModelCard, Unsupported

# Parameter -> what a model must be capable of. A part of a parameter has its path.
NEEDS = {
    "messages": Capability.CHAT,
    "messages.image_url": Capability.VISION,
    "prompt": Capability.COMPLETION,
    "prompt.tokens": Capability.TOKENS,
    "truncate_prompt_tokens": Capability.TOKENIZE,
    "truncation_side": Capability.TRUNCATION_SIDE,
    "add_special_tokens": Capability.TOKENIZE,
    "continue_final_message": Capability.CONTINUE_FINAL,
    "add_generation_prompt": Capability.CONTINUE_FINAL,
    "chat_template_kwargs": Capability.TEMPLATE_ARGUMENTS,
    "max_tokens": Capability.MAX_TOKENS,
    "max_completion_tokens": Capability.MAX_TOKENS,
    "min_tokens": Capability.MIN_TOKENS,
    "temperature": Capability.TEMPERATURE,
    "top_p": Capability.TOP_P,
    "top_k": Capability.TOP_K,
    "min_p": Capability.MIN_P,
    "repetition_penalty": Capability.REPETITION_PENALTY,
    "presence_penalty": Capability.PRESENCE_PENALTY,
    "frequency_penalty": Capability.FREQUENCY_PENALTY,
    "logit_bias": Capability.LOGIT_BIAS,
    "seed": Capability.SEED,
    "stop": Capability.STOP,
    "stop_token_ids": Capability.STOP_TOKEN_IDS,
    "include_stop_str_in_output": Capability.INCLUDE_STOP_STR_IN_OUTPUT,
    "allowed_token_ids": Capability.ALLOWED_TOKEN_IDS,
    "bad_words": Capability.BAD_WORDS,
    "ignore_eos": Capability.IGNORE_EOS,
    "logprobs": Capability.LOGPROBS,
    "top_logprobs": Capability.LOGPROBS,
    "best_of": Capability.LOGPROBS,
    "prompt_logprobs": Capability.PROMPT_LOGPROBS,
    "return_token_ids": Capability.TOKEN_IDS,
    "return_tokens_as_token_ids": Capability.LOGPROBS,
    "tools": Capability.TOOLS,
    "tool_choice": Capability.TOOLS,
    "parallel_tool_calls": Capability.PARALLEL_TOOL_CALLS,
    "functions": Capability.TOOLS,
    "function_call": Capability.TOOLS,
    "reasoning_effort": Capability.REASONING_EFFORT,
    "thinking": Capability.REASONING,
    "thinking.budget_tokens": Capability.REASONING_BUDGET,
    "reasoning.effort": Capability.REASONING_EFFORT,
    "reasoning.enabled": Capability.REASONING,
    "reasoning.max_tokens": Capability.REASONING_BUDGET,
    "enable_thinking": Capability.REASONING,
    **dict.fromkeys(BUDGETS, Capability.REASONING_BUDGET),
    **SHAPE_NEEDS,
}

# Taken, and without effect: what its description says holds whatever it is.
TAKEN = frozenset({"user", "service_tier", "safety_identifier", "prompt_cache_key"})
# Parts of parameters likewise: what an answer's message holds is sent back with it.
TAKEN_PARTS = {
    "messages": (
        "messages.name",
        "messages.annotations",
        "messages.cache_control",
        "messages.parsed",
    ),
    "tools": ("tools.cache_control",),
    "structured_outputs": SHAPE_TAKEN,
}

# Not done by anybody here, and the values that ask for nothing; `null` never does.
_REFUSED: dict[str, tuple[object, ...]] = {
    "length_penalty": (1,),
    "skip_special_tokens": (True,),
    "use_beam_search": (False,),
}
REFUSED: dict[type[CommonBody], dict[str, tuple[object, ...]]] = {
    ChatCompletionBody: _REFUSED
    | {
        "add_special_tokens": (False,),
        "audio": (),
        "modalities": (["text"],),
        "moderation": (),
        "prediction": (),
        "prompt_cache_options": (),
        "prompt_cache_retention": ("in_memory", "in-memory"),
        "verbosity": ("medium",),
        "web_search_options": (),
    },
    CompletionBody: _REFUSED | {"suffix": ("",)},
}


def refuse(body: CommonBody) -> None:
    """Raise `Unsupported` for a parameter that no model here honours, unless its value is neutral."""
    for name, neutral in REFUSED[type(body)].items():
        value = getattr(body, name)
        if value is not None and not _is_one_of(value, neutral):
            raise Unsupported(f"{name} is not supported here", param=name)


def to_parameters(kind: type[CommonBody], card: ModelCard) -> Parameters:
    """Sort the parameters of a body by what becomes of them for a model."""
    return Parameters(tuple(honoured(kind, card)), tuple(taken(kind)), tuple(refused(kind, card)))


def honoured(kind: type[CommonBody], card: ModelCard) -> Iterator[str]:
    """List the parameters of a body that a model honours, each part of one by its path."""
    for name in kind.__struct_fields__:
        if name in TAKEN or name in REFUSED[kind]:
            continue
        parts = {path: need for path, need in NEEDS.items() if path == name or path.startswith(f"{name}.")}
        yield from (path for path, need in parts.items() if need in card.capabilities)
        if not parts:
            yield name


def taken(kind: type[CommonBody]) -> Iterator[str]:
    """List the parameters of a body that are taken and have no effect."""
    for name in kind.__struct_fields__:
        if name in TAKEN:
            yield name
        yield from TAKEN_PARTS.get(name, ())


def refused(kind: type[CommonBody], card: ModelCard) -> Iterator[str]:
    """List the parameters of a body, or parts of them, that are refused for a model, by their paths."""
    known = {*honoured(kind, card), *taken(kind)}
    for name in kind.__struct_fields__:
        parts = (path for path in (*NEEDS, *SHAPE_REFUSED) if path == name or path.startswith(f"{name}."))
        paths = list(parts) or [name]
        yield from (path for path in paths if path not in known)


def _is_one_of(value: object, others: tuple[object, ...]) -> bool:
    """Tell whether a JSON value is among others; for Python, but not for JSON, `true` is 1."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in others)
