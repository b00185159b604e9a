"""Requests in llama-server's own words, and the frames and refusals that come back."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.engine import ContextTooLong, EngineError, InvalidRequest, Overloaded, Sampling, Unavailable

# Our name and the server's, of parameters that it takes as they are.
_SAME = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
# Temperature before the cuts, as OpenAI and transformers have it; the server's own order has it last.
_SAMPLERS = ("penalties", "temperature", "top_k", "top_p", "min_p")
_SEEDS = (1 << 32) - 1  # the last one means a random seed
# What the last frame tells; without this it repeats the prompt.
_LAST = ("stop", "stop_type", "tokens_predicted")

_UNAVAILABLE, _BUSY = 503, 429


class PromptProgress(Struct, frozen=True):
    """How far a prompt is read: its tokens, those found in the cache, and the milliseconds that it took."""

    total: int
    cache: int = 0
    processed: int = 0
    time_ms: float = 0.0


class TokenChance(Struct, frozen=True):
    """A token with its natural log probability, before temperature and cuts."""

    id: int
    logprob: float
    top_logprobs: tuple["TokenChance", ...] = ()


class CompletionFrame(Struct, frozen=True):
    """One event of a stream: a token and the text that it completes, progress with the prompt, or the end."""

    content: str = ""
    tokens: tuple[int, ...] = ()
    stop: bool = False
    stop_type: str = ""
    tokens_predicted: int = 0
    prompt_progress: PromptProgress | None = None
    completion_probabilities: tuple[TokenChance, ...] = ()
    error: object = None


class _ServerRefusal(Struct, frozen=True):
    type: str = ""


class _ServerRefusalBody(Struct, frozen=True):
    error: _ServerRefusal


_FRAME = msgspec.json.Decoder(CompletionFrame)


def to_body(ids: Sequence[int], sampling: Sampling, limit: int, context: int) -> dict[str, Any]:
    """Return the body that asks for an answer of at most `limit` tokens; what `sampling` leaves open is off."""
    asked: dict[str, Any] = {"prompt": ids, "stream": True, "return_progress": True, "response_fields": _LAST}
    return asked | to_drawing(sampling, limit, context)


def to_drawing(sampling: Sampling, limit: int, context: int) -> dict[str, Any]:
    """Return the part of a body that says how tokens are drawn, and how many."""
    body: dict[str, Any] = {"n_predict": limit, "samplers": _SAMPLERS}
    for name, theirs in _SAME.items():
        if (value := getattr(sampling, name)) is not None:
            body[theirs] = value
    if {"repeat_penalty", "presence_penalty", "frequency_penalty"} & body.keys():
        body["repeat_last_n"] = context
    if sampling.seed is not None:
        body["seed"] = sampling.seed % _SEEDS
    if sampling.logit_bias:
        body["logit_bias"] = [[token, bias] for token, bias in sampling.logit_bias.items()]
    if sampling.ignore_eos:
        body["ignore_eos"] = True
    if sampling.logprobs is not None:
        body["n_probs"] = max(sampling.logprobs, 1)
    return body


def read_frame(data: bytes) -> CompletionFrame:
    """Read the data of one event; raise `EngineError` for one that is an error or no frame."""
    try:
        frame = _FRAME.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EngineError("llama-server sent an event that is no part of an answer") from error
    if frame.error is not None:
        raise EngineError("llama-server failed while it answered; the log says why at DEBUG")
    return frame


def to_error(status: int, body: bytes) -> EngineError:
    """Return our error for a refusal, in words of our own: the server's may quote a prompt."""
    try:
        kind = msgspec.json.decode(body, type=_ServerRefusalBody).error.type
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        kind = ""
    if kind == "exceed_context_size_error":
        return ContextTooLong("prompt and answer do not fit the context of this model", param="prompt")
    if status == _UNAVAILABLE:
        return Unavailable("llama-server is loading its model")
    if status == _BUSY:
        return Overloaded("llama-server takes no more now")
    if kind == "invalid_request_error":
        return InvalidRequest("llama-server refuses the request; the log says why at DEBUG")
    return EngineError(f"llama-server answered with the status {status}")
