"""What the parameters of a request become."""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from gateway.api.explain.schema import ExplainedParameter, ParameterSource
from gateway.engine import EmbedRequest, GenerateRequest, ModelCard, ScoreRequest

# What of a question are no parameters: what it is about, and what the gateway fills in.
_NO_PARAMETERS = frozenset({"id", "model", "inputs", "documents", "queries", "timeout", "trace"})


def of_generation(request: GenerateRequest, card: ModelCard) -> dict[str, ExplainedParameter]:
    """Say for each parameter that has a value what it is, and where it is from."""
    settled = card.under(request.defaults).under(request.sampling).defaults
    found: dict[str, ExplainedParameter] = {}
    for name, value in _given(settled).items():
        found[name] = ExplainedParameter(value, _source(name, request))
    asked: Mapping[str, object] = {
        "constraint": msgspec.to_builtins(request.constraint),
        "truncate": request.truncate,
        "truncation_side": None if request.truncate is None else request.truncation_side,
        "priority": request.priority or None,
        "tools": [tool.name for tool in getattr(request.prompt, "tools", ())] or None,
        "reasoning": getattr(request.prompt, "reasoning", None),
        "reasoning_effort": getattr(request.prompt, "reasoning_effort", None),
        "reasoning_budget": getattr(request.prompt, "reasoning_budget", None),
    }
    return found | {name: ExplainedParameter(value, "request") for name, value in asked.items() if value is not None}


def of_question(request: EmbedRequest | ScoreRequest) -> dict[str, ExplainedParameter]:
    """Say for each parameter of a question that has a value what it is."""
    given = _given(request).items()
    return {name: ExplainedParameter(value, "request") for name, value in given if name not in _NO_PARAMETERS}


def _given(struct: Struct) -> dict[str, object]:
    values = ((name, getattr(struct, name)) for name in struct.__struct_fields__)
    return {name: value for name, value in values if value is not None}


def _source(name: str, request: GenerateRequest) -> ParameterSource:
    if getattr(request.sampling, name) is not None:
        return "request"
    return "model" if getattr(request.defaults, name) is None else "gateway"
