"""Capabilities subtract: what a request needs less what the model's card lists must be empty."""

from gateway.engine.errors import Unsupported
from gateway.engine.sampling import Sampling
from gateway.engine.tools import ToolCall, ToolResult
from gateway.engine.types import (
    Capability,
    Chat,
    Choice,
    Completion,
    GenerateRequest,
    Grammar,
    Image,
    JsonObject,
    JsonSchema,
    ModelCard,
    Prompt,
    Regex,
    Tokens,
)

# A parameter at its neutral value asks for nothing, and every engine can do nothing.
_NEUTRAL: dict[str, object] = {
    "min_tokens": 0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "logit_bias": {},
    "stop": (),
    "stop_token_ids": (),
    "include_stop_str_in_output": False,
    "bad_words": (),
    "token_ids": False,
    "ignore_eos": False,
}

_ASKED = tuple((field, Capability(field), _NEUTRAL.get(field)) for field in Sampling.__struct_fields__)

_KIND = {
    Chat: Capability.CHAT,
    Completion: Capability.COMPLETION,
    Tokens: Capability.TOKENS,
    JsonSchema: Capability.JSON_SCHEMA,
    JsonObject: Capability.JSON_OBJECT,
    Regex: Capability.REGEX,
    Choice: Capability.CHOICE,
    Grammar: Capability.GRAMMAR,
}


def needs(request: GenerateRequest) -> frozenset[Capability]:
    """List the capabilities that `request` asks for."""
    found = _asked(request.sampling)
    found |= prompt_needs(request.prompt)
    if request.constraint is not None:
        found.add(_KIND[type(request.constraint)])
    if request.truncate is not None:
        found.add(Capability.TOKENIZE)
        if request.truncation_side != "left":
            found.add(Capability.TRUNCATION_SIDE)
    if request.standby is not None:
        found.add(Capability.STANDBY)
    return frozenset(found)


def prompt_needs(prompt: Prompt) -> frozenset[Capability]:
    """List the capabilities that it takes to read `prompt`."""
    found = {_KIND[type(prompt)]}
    if isinstance(prompt, Completion) and not prompt.add_special:
        found.add(Capability.TOKENIZE)
    if isinstance(prompt, Chat):
        kinds = {type(part) for message in prompt.messages for part in message.parts}
        asked = {
            Capability.TOOLS: (prompt.tools and prompt.tool_choice != "none")
            or not kinds.isdisjoint((ToolCall, ToolResult)),
            Capability.PARALLEL_TOOL_CALLS: prompt.tools and not prompt.parallel_tool_calls,
            # Not to think, or hardly, is what a model does that cannot.
            Capability.REASONING: prompt.reasoning,
            Capability.REASONING_EFFORT: prompt.reasoning_effort not in (None, "minimal"),
            Capability.REASONING_BUDGET: prompt.reasoning_budget,
            Capability.VISION: Image in kinds,
            Capability.CONTINUE_FINAL: prompt.continue_final or not prompt.generation_prompt,
            Capability.TEMPLATE_ARGUMENTS: prompt.template_arguments,
        }
        found |= {capability for capability, is_asked in asked.items() if is_asked}
    return frozenset(found)


def require(needed: frozenset[Capability], card: ModelCard) -> None:
    """Raise `Unsupported`, naming what is missing, unless the card lists all that is needed."""
    missing = sorted(needed - card.capabilities)
    if missing:
        raise Unsupported(f"the model {card.name!r} does not support {', '.join(missing)}", param=missing[0])


def negotiate(request: GenerateRequest, card: ModelCard) -> None:
    """Raise `Unsupported`, naming what is missing, unless the card lists all that `request` needs."""
    require(needs(request), card)


def _asked(sampling: Sampling) -> set[Capability]:
    return {
        capability
        for field, capability, neutral in _ASKED
        if (value := getattr(sampling, field)) is not None and value != neutral
    }
