"""The table of the parameters of `/v1/responses`: what each needs of a model, and what is done with it here.

It is what refuses a parameter, and what `GET /v1/models/{id}/capabilities` shows.
"""

import msgspec

from gateway.api.exchange.dialect import Parameters
from gateway.api.responses.schema import PromptBody, ResponsesBody
from gateway.engine import Capability, ModelCard, Unsupported

# Parameter -> what a model must be capable of. A part of a parameter has its path.
NEEDS = {
    "input": Capability.CHAT,
    "input.function_call": Capability.TOOLS,
    "max_output_tokens": Capability.MAX_TOKENS,
    "temperature": Capability.TEMPERATURE,
    "top_p": Capability.TOP_P,
    "text.format.json_object": Capability.JSON_OBJECT,
    "text.format.json_schema": Capability.JSON_SCHEMA,
    "tools": Capability.TOOLS,
    "tool_choice": Capability.TOOLS,
    "parallel_tool_calls": Capability.PARALLEL_TOOL_CALLS,
    "reasoning.effort": Capability.REASONING_EFFORT,
    "top_logprobs": Capability.LOGPROBS,
    "include.message.output_text.logprobs": Capability.LOGPROBS,
}

# Taken, and without effect: what its description says holds whatever it is.
TAKEN = frozenset({"user", "safety_identifier", "prompt_cache_key", "service_tier", "max_tool_calls"})
TAKEN_PARTS = ("reasoning.summary",)

# Parts that need nothing of a model.
_PARTS = ("include.reasoning.encrypted_content",)

# Not done by anybody here, and the values that ask for nothing; `null` never does.
REFUSED: dict[str, tuple[object, ...]] = {
    "access_programs": (),
    "background_options": (),
    "context_management": ([],),
    "image": (),
    "moderation": (),
    "prompt": (),
    "prompt_cache_options": ({},),
    "prompt_cache_retention": ("in_memory", "in-memory"),
    "reasoning.context": ("auto",),
    "reasoning.encrypted_content": (),
    "reasoning.generate_summary": ("auto",),
    "reasoning.mode": ("standard",),
    "reasoning.summary": ("auto",),
    "stream_options.include_obfuscation": (False,),
    "text.verbosity": ("medium",),
}
SCORES = "message.output_text.logprobs"
SEALED = "reasoning.encrypted_content"


def refuse(body: PromptBody) -> None:
    """Raise `Unsupported` for a parameter that no model here honours, unless its value is neutral."""
    for path, neutral in REFUSED.items():
        value: object = body
        for name in path.split("."):
            value = getattr(value, name, None)
        if value is not None and not any(
            value == other and isinstance(value, bool) == isinstance(other, bool) for other in neutral
        ):
            raise Unsupported(f"{path} is not supported here", param=path)
    included = body.include or () if isinstance(body, ResponsesBody) else ()
    for number, name in enumerate(included):
        if name not in (SCORES, SEALED):
            raise Unsupported(f"{name[:60]!r} cannot be included here", param=f"include[{number}]")


def sort_out(card: ModelCard) -> Parameters:
    """Sort the parameters by what becomes of them for a model."""
    honoured: list[str] = []
    refused: list[str] = []
    for field in msgspec.structs.fields(ResponsesBody):
        if field.name in TAKEN:
            continue
        for path in _paths(field.name):
            is_able = path not in REFUSED and (path not in NEEDS or NEEDS[path] in card.capabilities)
            (honoured if is_able else refused).append(path)
    refused = [path for path in refused if path not in TAKEN_PARTS]
    return Parameters(tuple(honoured), (*sorted(TAKEN), *TAKEN_PARTS), tuple(refused))


def _paths(name: str) -> list[str]:
    """List what the table says of a parameter and its parts."""
    return [path for path in (*NEEDS, *_PARTS, *REFUSED) if path.partition(".")[0] == name] or [name]
