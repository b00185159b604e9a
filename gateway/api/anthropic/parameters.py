"""The table of Anthropic's parameters: what each needs of a model, and what is done with it here.

It is what refuses a parameter, and what `GET /v1/models/{id}/capabilities` shows.
"""

from gateway.api.anthropic.schema import CountBody, MessagesBody
from gateway.api.exchange.dialect import Parameters
from gateway.engine import Capability, ModelCard, Unsupported

# Parameter -> what a model must be capable of. A part of a parameter has its path.
NEEDS = {
    "messages": Capability.CHAT,
    "messages.prefill": Capability.CONTINUE_FINAL,
    "messages.image": Capability.VISION,
    "max_tokens": Capability.MAX_TOKENS,
    "temperature": Capability.TEMPERATURE,
    "top_p": Capability.TOP_P,
    "top_k": Capability.TOP_K,
    "stop_sequences": Capability.STOP,
    "tools": Capability.TOOLS,
    "tool_choice": Capability.TOOLS,
    "tool_choice.disable_parallel_tool_use": Capability.PARALLEL_TOOL_CALLS,
    "thinking": Capability.REASONING,
    "thinking.budget_tokens": Capability.REASONING_BUDGET,
    "output_config.format": Capability.JSON_SCHEMA,
    "output_format": Capability.JSON_SCHEMA,
    "output_config.effort": Capability.REASONING_EFFORT,
}

# Taken, and without effect: what its description says holds whatever it is.
TAKEN = frozenset({"cache_control", "metadata", "service_tier", "user_profile_id", "workspace_id"})

# Not done by anybody here, and the values that ask for nothing; `null` never does.
REFUSED: dict[str, tuple[object, ...]] = {
    "compaction": (),
    "container": (),
    "context_management": ({}, {"edits": []}),
    "diagnostics": (),
    "fallbacks": ([],),
    "inference_geo": (),
    "mcp_servers": ([],),
    "speed": ("standard",),
    "thread": (),
}


def refuse(body: CountBody) -> None:
    """Raise `Unsupported` for a parameter that no model here honours, unless its value is neutral."""
    for path, neutral in REFUSED.items():
        value: object = body
        for name in path.split("."):
            value = getattr(value, name, None)
        if value is not None and value not in neutral:
            raise Unsupported(f"{path} is not supported here", param=path)


def sort_out(card: ModelCard) -> Parameters:
    """Sort the parameters by what becomes of them for a model."""
    honoured: list[str] = []
    refused: list[str] = []
    for name in MessagesBody.__struct_fields__:
        if name in TAKEN:
            continue
        for path in _paths(name):
            is_able = path not in REFUSED and (path not in NEEDS or NEEDS[path] in card.capabilities)
            (honoured if is_able else refused).append(path)
    taken = tuple(name for name in MessagesBody.__struct_fields__ if name in TAKEN)
    return Parameters(tuple(honoured), taken, tuple(refused))


def _paths(name: str) -> list[str]:
    """List what the table says of a parameter and its parts."""
    return [path for path in (*NEEDS, *REFUSED) if path.partition(".")[0] == name] or [name]
