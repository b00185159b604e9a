"""Requests in OpenAI's words, and the frames and refusals that come back."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gateway.engine import (
    Capability,
    Chat,
    Completion,
    ContextTooLong,
    EngineError,
    GenerateRequest,
    InvalidRequest,
    Overloaded,
    Unavailable,
    Unsupported,
    UpstreamFailed,
)

# The parameters that OpenAI documents for both of its routes; a request with another one never gets here.
_SAMPLING = ("max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stop")
CAPABILITIES = frozenset({Capability.CHAT, Capability.COMPLETION} | {Capability(name) for name in _SAMPLING})

_LONGEST_WAIT = 3600.0
_Tokens = Annotated[int, Meta(ge=0, le=1 << 40)]


class FrameUsage(Struct, frozen=True):
    """The tokens of an answer, as the server counts them."""

    prompt_tokens: _Tokens
    completion_tokens: _Tokens = 0


class FrameDelta(Struct, frozen=True):
    """A piece of a message."""

    content: str | None = None


class FrameChoice(Struct, frozen=True):
    """A piece of the answer: a delta of a conversation, or the text of a completion."""

    delta: FrameDelta | None = None
    text: str | None = None
    finish_reason: str | None = None


class AnswerFrame(Struct, frozen=True):
    """One event of a stream."""

    choices: tuple[FrameChoice, ...] = ()
    usage: FrameUsage | None = None
    error: object = None


class ListedModel(Struct, frozen=True):
    """A model of the server's list; the context by the names that servers have for it."""

    id: Annotated[str, Meta(min_length=1, max_length=255)]
    context_window: Annotated[int, Meta(ge=1)] | None = None
    max_model_len: Annotated[int, Meta(ge=1)] | None = None


class ListedModels(Struct, frozen=True):
    """The server's list of models."""

    data: tuple[ListedModel, ...]


class _Refusal(Struct, frozen=True):
    code: str | int | None = None
    param: str | None = None


class _RefusalBody(Struct, frozen=True):
    error: _Refusal


_FRAME = msgspec.json.Decoder(AnswerFrame)


def to_body(request: GenerateRequest, model: str) -> tuple[str, dict[str, Any]]:
    """Return the path and the body that ask for an answer from the server's `model`, streamed, with its usage."""
    asked: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    for name in _SAMPLING:
        value = getattr(request.sampling, name)
        value = getattr(request.defaults, name) if value is None else value
        if value is not None:
            asked[name] = value
    match request.prompt:
        case Chat(messages) as chat:
            for name in ("reasoning", "reasoning_effort"):
                if getattr(chat, name) is not None:
                    raise Unsupported("the server behind this model is not told whether to think", param=name)
            asked["messages"] = [{"role": message.role, "content": message.text} for message in messages]
            return "/chat/completions", asked
        case Completion(text):
            return "/completions", asked | {"prompt": text}
        case _:
            raise InvalidRequest("the server behind this model reads texts only", param="prompt")


def read_frame(data: bytes) -> AnswerFrame:
    """Read the data of one event; raise `UpstreamFailed` for one that is an error or no frame."""
    try:
        frame = _FRAME.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamFailed("the server behind this model sent an event that is no part of an answer") from error
    if frame.error is not None:
        raise UpstreamFailed("the server behind this model failed while it answered")
    return frame


def to_error(status: int, body: bytes, retry_after: str | None) -> EngineError:
    """Return our error for a refusal, in words of our own: the server's may name its host."""
    refusal = _refusal(body)
    if status in (429, 503):
        seconds = _seconds(retry_after)
        kind = Overloaded if status == 429 else Unavailable  # noqa: PLR2004 - as HTTP numbers it
        return kind("the server behind this model takes no more now", retry_after=seconds)
    if refusal.code == "context_length_exceeded":
        return ContextTooLong("prompt and answer do not fit the context of this model", param="prompt")
    if status in (400, 413, 422):
        return InvalidRequest("the server behind this model refuses the request", param=_param(refusal.param))
    return UpstreamFailed(f"the server behind this model answered with the status {status}")


def _refusal(body: bytes) -> _Refusal:
    try:
        return msgspec.json.decode(body, type=_RefusalBody).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Refusal()


def _param(name: str | None) -> str | None:
    """Return the name of a parameter that was sent; anything else is the server's own affair."""
    return name if name in {*_SAMPLING, "messages", "prompt"} else None


def _seconds(retry_after: str | None) -> float:
    try:
        seconds = float(retry_after or 1)
    except ValueError:
        return 1.0
    return min(seconds, _LONGEST_WAIT) if seconds > 0 else 1.0
