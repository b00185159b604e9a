"""What a server sends: the frames of a stream, a whole answer, a refusal, and its lists."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gateway.engine import UpstreamFailed

_Tokens = Annotated[int, Meta(ge=0, le=1 << 40)]


class PromptPart(Struct, frozen=True):
    """Of the prompt's tokens, those that a cache held."""

    cached_tokens: _Tokens | None = None


class AnswerPart(Struct, frozen=True):
    """Of the answer's tokens, those that were thought."""

    reasoning_tokens: _Tokens | None = None


class FrameUsage(Struct, frozen=True):
    """The tokens of an answer, as the server counts them."""

    prompt_tokens: _Tokens
    completion_tokens: _Tokens = 0
    prompt_tokens_details: PromptPart | None = None
    completion_tokens_details: AnswerPart | None = None


class FrameFunction(Struct, frozen=True):
    """The function of a call, or a piece of it; some servers send arguments that are read already."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class FrameCall(Struct, frozen=True):
    """A piece of a call."""

    index: int | None = None
    id: str | None = None
    function: FrameFunction | None = None


class FrameDelta(Struct, frozen=True):
    """A piece of a message, or all of it; thoughts have two names."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[FrameCall, ...] | None = None


class FrameToken(Struct, frozen=True):
    """A token of a conversation's answer, with the likeliest in its place."""

    token: str
    logprob: float
    bytes: tuple[Annotated[int, Meta(ge=0, le=255)], ...] | None = None
    top_logprobs: tuple["FrameToken", ...] | None = None


class FrameLogprobs(Struct, frozen=True):
    """How likely tokens were: `content` in a conversation, a list for each thing there is to know in a completion."""

    content: tuple[FrameToken, ...] | None = None
    tokens: tuple[str, ...] | None = None
    token_logprobs: tuple[float | None, ...] | None = None
    top_logprobs: tuple[dict[str, float] | None, ...] | None = None


class RankedToken(Struct, frozen=True):
    """A token that was possible in a place of the prompt."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


PromptRanks = tuple[dict[int, RankedToken] | None, ...]


class FrameChoice(Struct, frozen=True):
    """A piece of the answer: a delta of a conversation, the text of a completion; `message` is a whole one."""

    delta: FrameDelta | None = None
    message: FrameDelta | None = None
    text: str | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    logprobs: FrameLogprobs | None = None
    token_ids: tuple[int, ...] | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    prompt_logprobs: PromptRanks | None = None


class AnswerFrame(Struct, frozen=True):
    """One event of a stream, or a whole answer."""

    choices: tuple[FrameChoice, ...] = ()
    usage: FrameUsage | None = None
    error: object = None
    prompt_token_ids: tuple[int, ...] | None = None
    prompt_logprobs: PromptRanks | None = None


class ModelMeta(Struct, frozen=True):
    """What llama-server says of a model beside its name."""

    n_vocab: Annotated[int, Meta(ge=0)] | None = None


class ListedModel(Struct, frozen=True):
    """A model of the server's list; the context by the names that servers have for it."""

    id: Annotated[str, Meta(min_length=1, max_length=255)]
    context_window: Annotated[int, Meta(ge=1)] | None = None
    max_model_len: Annotated[int, Meta(ge=1)] | None = None
    meta: ModelMeta | None = None


class ListedModels(Struct, frozen=True):
    """The server's list of models."""

    data: tuple[ListedModel, ...]


_FRAME = msgspec.json.Decoder(AnswerFrame)


def read_frame(data: bytes) -> AnswerFrame:
    """Read the data of one event; raise `UpstreamFailed` for one that is an error or no frame."""
    try:
        frame = _FRAME.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamFailed("the server behind this model sent an event that is no part of an answer") from error
    if frame.error is not None:
        raise UpstreamFailed("the server behind this model failed while it answered")
    return frame
