"""The table of OpenAI's parameters: what each needs of a model, and what is done with it here.

It is what refuses a parameter, and what `GET /v1/models/{id}/capabilities` shows.
"""

from collections.abc import Iterator

from gateway.api.openai.schema import ChatCompletionBody, CompletionBody
from gateway.api.openai.shared import CommonBody
from gateway.engine import Capability, ModelCard, Unsupported

KINDS: dict[str, type[CommonBody]] = {"chat.completions": ChatCompletionBody, "completions": CompletionBody}

# Parameter -> what a model must be capable of. A part of a parameter has its path.
NEEDS = {
    "messages": Capability.CHAT,
    "messages.image_url": Capability.VISION,
    "prompt": Capability.COMPLETION,
    "prompt.tokens": Capability.TOKENS,
    "truncate_prompt_tokens": Capability.TOKENS,
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
    "ignore_eos": Capability.IGNORE_EOS,
    "logprobs": Capability.LOGPROBS,
    "top_logprobs": Capability.LOGPROBS,
    "best_of": Capability.LOGPROBS,
    "prompt_logprobs": Capability.PROMPT_LOGPROBS,
    "tools": Capability.TOOLS,
    "tool_choice": Capability.TOOLS,
    "response_format.json_object": Capability.JSON_OBJECT,
    "response_format.json_schema": Capability.JSON_SCHEMA,
    "structured_outputs.json": Capability.JSON_SCHEMA,
    "structured_outputs.json_object": Capability.JSON_OBJECT,
    "structured_outputs.regex": Capability.REGEX,
    "structured_outputs.choice": Capability.CHOICE,
    "structured_outputs.grammar": Capability.GRAMMAR,
}

# Taken, and without effect: what its description says holds whatever it is.
TAKEN = frozenset({"user", "store", "service_tier", "safety_identifier", "prompt_cache_key"})

# Not done by anybody here, and the values that ask for nothing; `null` never does.
REFUSED: dict[str, tuple[object, ...]] = {
    "add_generation_prompt": (True,),
    "add_special_tokens": (),
    "allowed_token_ids": (),
    "audio": (),
    "bad_words": ([],),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "function_call": ("none",),
    "functions": ([],),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": ("in_memory",),
    "reasoning_effort": (),
    "skip_special_tokens": (True,),
    "suffix": ("",),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}


def refuse(body: CommonBody) -> None:
    """Raise `Unsupported`, naming it, where a body asks for what nobody here does."""
    for name, neutral in REFUSED.items():
        value = getattr(body, name, None)
        if value is not None and not _is_one_of(value, neutral):
            raise Unsupported(f"{name} is not supported here", param=name)


def honoured(kind: type[CommonBody], card: ModelCard) -> Iterator[str]:
    """List the parameters of a body that a model honours, each part of one by its path."""
    # A conversation has no tokens before the engine made them.
    able = card.capabilities - {Capability.TOKENS} if kind is ChatCompletionBody else card.capabilities
    for name in kind.__struct_fields__:
        if name in TAKEN or name in REFUSED:
            continue
        parts = {path: need for path, need in NEEDS.items() if path == name or path.startswith(f"{name}.")}
        yield from (path for path, need in parts.items() if need in able)
        if not parts:
            yield name


def taken(kind: type[CommonBody]) -> Iterator[str]:
    """List the parameters of a body that are taken and have no effect."""
    return (name for name in kind.__struct_fields__ if name in TAKEN)


def refused(kind: type[CommonBody], card: ModelCard) -> Iterator[str]:
    """List the parameters of a body, or parts of them, that are refused for a model, by their paths."""
    known = {*honoured(kind, card), *taken(kind)}
    for name in kind.__struct_fields__:
        paths = [path for path in NEEDS if path == name or path.startswith(f"{name}.")] or [name]
        yield from (path for path in paths if path not in known)


def _is_one_of(value: object, others: tuple[object, ...]) -> bool:
    """Tell whether a JSON value is among others; for Python, but not for JSON, `true` is 1."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in others)
