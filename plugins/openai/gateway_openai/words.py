"""A request of ours in the words of a server."""

import json
import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from gateway.engine import (
    Capability,
    Chat,
    Choice,
    Completion,
    Constraint,
    ContextTooLong,
    GenerateRequest,
    Grammar,
    InvalidRequest,
    JsonObject,
    JsonSchema,
    ModelCard,
    Regex,
    Sampling,
    Tokens,
    Unsupported,
    needs,
)
from gateway_openai.messages import to_messages, to_tools
from gateway_openai.profiles import Profile

# They are no words of their own, or have two forms.
_APART = frozenset({"max_tokens", "max_length", "logprobs", "prompt_logprobs"})
_PLAIN = tuple((name, Capability(name)) for name in Sampling.__struct_fields__ if name not in _APART)
_NOTHING = Sampling()
_THINKING = ("reasoning", "reasoning_effort", "reasoning_budget")
_KINDS = {
    JsonSchema: Capability.JSON_SCHEMA,
    JsonObject: Capability.JSON_OBJECT,
    Regex: Capability.REGEX,
    Choice: Capability.CHOICE,
    Grammar: Capability.GRAMMAR,
}


class RemoteModel(Struct, frozen=True):
    """A model behind the engine: its card here, its name there, and the words that it takes."""

    card: ModelCard
    id: str
    profile: Profile


class Asked(Struct, frozen=True):
    """A request as it is sent: `sent` maps its words to our names, `most` bounds the answer's tokens.

    `shape` names what the answer is held to.
    """

    path: str
    body: dict[str, Any]
    sent: dict[str, str]
    most: int
    shape: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the answer comes in one piece."""
        return "stream" not in self.body


def to_asked(request: GenerateRequest, model: RemoteModel) -> Asked:
    """Write a request to `model`, streamed with its usage; raise `Unsupported` for what the server would drop."""
    profile, able = model.profile, model.card.capabilities
    is_chat = isinstance(request.prompt, Chat)
    if not is_chat and (lacking := sorted(needs(request) & profile.chat_only)):
        raise Unsupported("the server behind this model takes this in conversations only", param=lacking[0])
    prompt, sent = _to_prompt(request, model)
    body: dict[str, Any] = {"model": model.id} | prompt
    # Scores of a prompt are told in whole answers only.
    if (scores := request.sampling.prompt_logprobs) is not None:
        body["prompt_logprobs"] = scores
    else:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    _add_sampling(body, sent, request, model)
    most = _value(request, "max_tokens")
    if most is not None:
        _check_limit(most, model)
        word = profile.limit if is_chat else "max_tokens"
        body[word], sent[word] = most, "max_tokens"
    if (ranks := request.sampling.logprobs) is not None:
        body |= {"logprobs": True, "top_logprobs": ranks} if is_chat else {"logprobs": ranks}
        sent |= {"logprobs": "logprobs", "top_logprobs": "logprobs"}
    if (ranks is not None or scores is not None) and Capability.TOKEN_IDS in able:
        body["return_token_ids"] = True  # else nothing says which tokens they are
    if request.constraint is not None:
        _check_thought(request, profile)
        shape = to_shape(request.constraint, profile)
        if profile.name == "llama-server":
            body.pop("ignore_eos", None)  # a shape ends where it is complete, which it would not
        body |= shape
        sent |= dict.fromkeys(shape, _KINDS[type(request.constraint)].value)
    if request.salt and profile.salted:
        body["cache_salt"] = request.salt
    return Asked(
        "/chat/completions" if is_chat else "/completions",
        body,
        sent,
        most or model.card.context_window,
        shape_of(request),
    )


def _check_thought(request: GenerateRequest, profile: Profile) -> None:
    """Raise `InvalidRequest` for a thought that llama-server would hold to the shape of the answer."""
    asked = isinstance(request.prompt, Chat) and request.prompt.reasoning
    if asked and profile.name == "llama-server" and isinstance(request.constraint, Choice | Grammar):
        raise InvalidRequest(
            "the server behind this model holds a thought to this shape too: ask with reasoning off", param="reasoning"
        )


def shape_of(request: GenerateRequest) -> str | None:
    """Return the name of the shape that a request asks for."""
    return None if request.constraint is None else _KINDS[type(request.constraint)].value


def _check_limit(most: int, model: RemoteModel) -> None:
    """Raise `ContextTooLong` for what llama-server would cut at its context, and say nothing of."""
    context = model.card.context_window
    if model.profile.name == "llama-server" and most > context:
        raise ContextTooLong(f"{most} tokens are to follow, and the context has {context}", param="max_tokens")


def _add_sampling(body: dict[str, Any], sent: dict[str, str], request: GenerateRequest, model: RemoteModel) -> None:
    """Add the words of the server for the fields that it takes in this kind of prompt."""
    if request.sampling == _NOTHING == request.defaults:
        return
    profile = model.profile
    lacking = frozenset[Capability]() if isinstance(request.prompt, Chat) else profile.chat_only
    for name, capability in _PLAIN:
        value = _value(request, name)
        if value is not None and capability in model.card.capabilities and capability not in lacking:
            word = profile.words.get(name, name)
            body[word], sent[word] = _spelled(name, value), name


def to_shape(constraint: Constraint, profile: Profile) -> dict[str, Any]:
    """Write a constraint; raise `Unsupported` for one that the server has no word for."""
    match constraint:
        case Choice(()):
            raise InvalidRequest("there is nothing to choose from", param="choice")
        case JsonSchema(schema) if profile.shapes == "tgi":
            return {"response_format": {"type": "json", "value": schema}}
        case JsonSchema(schema) if profile.shapes == "llama-server":
            return {"json_schema": schema}  # it reads a response_format in conversations only
        case JsonObject() if profile.shapes == "llama-server":
            return {"json_schema": {"type": "object"}}
        case JsonSchema(schema):
            named = {"name": "answer", "schema": schema, "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": named}}
        case JsonObject():
            return {"response_format": {"type": "json_object"}}
        case _:
            write = _SHAPES.get(profile.shapes)
            shape = write(*_said(constraint)) if write is not None else {}
            if not shape:
                kind = _KINDS[type(constraint)].value
                raise Unsupported(f"the server behind this model knows no {kind}", param=kind)
            return shape


def _said(constraint: Regex | Choice | Grammar) -> tuple[str, Any]:
    match constraint:
        case Regex(pattern):
            return "regex", pattern
        case Choice(options):
            return "choice", options
        case Grammar(text):
            return "grammar", text


def _sglang(kind: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - a text, or several
    if kind == "choice":
        return {"regex": "|".join(f"({re.escape(option)})" for option in value)}
    return {"ebnf" if kind == "grammar" else kind: value}


def _llama_server(kind: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    if kind == "choice":
        value = "root ::= " + " | ".join(json.dumps(option, ensure_ascii=False) for option in value)
    return {} if kind == "regex" else {"grammar": value}


_SHAPES: dict[str, Callable[[str, Any], dict[str, Any]]] = {
    "structured_outputs": lambda kind, value: {"structured_outputs": {kind: value}},
    "guided": lambda kind, value: {f"guided_{kind}": value},
    "sglang": _sglang,
    "llama-server": _llama_server,
    "tgi": lambda kind, value: {"response_format": {"type": kind, "value": value}} if kind == "regex" else {},
}


def _to_prompt(request: GenerateRequest, model: RemoteModel) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the prompt, and say what its words are here."""
    cut: dict[str, Any] = {}
    if request.truncate is not None:
        cut["truncate_prompt_tokens"] = request.truncate
        if request.truncation_side != "left":
            cut["truncation_side"] = request.truncation_side
    names = dict.fromkeys(cut, "truncate_prompt_tokens")
    match request.prompt:
        case Chat() as chat:
            return cut | to_chat(chat, model), names | {"messages": "messages", "tools": "tools"}
        case Completion(text, add_special):
            special = {} if add_special else {"add_special_tokens": False}
            return cut | special | {"prompt": text}, names | {"prompt": "prompt"}
        case Tokens(ids):
            return cut | {"prompt": ids}, names | {"prompt": "prompt"}


def to_chat(chat: Chat, model: RemoteModel) -> dict[str, Any]:
    """Write a conversation; raise `Unsupported` for what the server has no word for."""
    body: dict[str, Any] = {"messages": to_messages(chat, model.profile)}
    if Capability.TOOLS in model.card.capabilities:
        body |= to_tools(chat, model.profile)
    if chat.continue_final:
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    elif not chat.generation_prompt:
        body["add_generation_prompt"] = False
    thinking = _to_thinking(chat, model.profile)
    arguments = thinking.pop("chat_template_kwargs", {}) | chat.template_arguments
    return body | thinking | ({"chat_template_kwargs": arguments} if arguments else {})


def _to_thinking(chat: Chat, profile: Profile) -> dict[str, Any]:
    """Write whether to think and how hard; raise `Unsupported` where the server has no word for it."""
    asked = ((name, getattr(chat, name)) for name in _THINKING)
    given = {name: value for name, value in asked if value is not None}
    match profile.thinking:
        case "gateway":
            names = {"reasoning": "enable_thinking", "reasoning_budget": "thinking_budget"}
            return {names.get(name, name): value for name, value in given.items()}
        case "effort" if given.keys() <= {"reasoning_effort"}:
            return given
        case "effort" if given == {"reasoning": False}:
            return {"reasoning_effort": "none"}
        case "template" if given == {"reasoning": False} or (
            given == {"reasoning": True} and Capability.REASONING in profile.takes
        ):
            return {"chat_template_kwargs": {"enable_thinking": chat.reasoning}}
        case _ if given:
            raise Unsupported("the server behind this model is not told whether to think", param=next(iter(given)))
        case _:
            return {}


def _value(request: GenerateRequest, name: str) -> Any:  # noqa: ANN401 - of any field
    value = getattr(request.sampling, name)
    return getattr(request.defaults, name) if value is None else value


def _spelled(name: str, value: object) -> object:
    """Write 0 for `top_k` as -1, which turns it off everywhere."""
    return -1 if name == "top_k" and value == 0 else value
