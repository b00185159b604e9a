"""What comes out of an engine: the sentence `Started (Delta | ToolDelta)* Finished`."""

from enum import StrEnum

from msgspec import Struct


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    DEADLINE = "deadline"


class Usage(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """Tokens of one generation; `cached_tokens` is the part of the prompt that was not prefilled again.

    `reasoning_tokens` is the part of the answer that was thought, with the markers around it.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class TokenLogprob(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A token with its natural log probability and the likeliest alternatives.

    `raw` are the bytes of a token whose `text` is not all of it, since it is part of a character; the bytes of any
    other are those of its text. The bytes of all tokens of an answer together are the answer's.
    """

    id: int
    text: str
    logprob: float
    top: tuple["TokenLogprob", ...] = ()
    raw: bytes | None = None

    @property
    def encoded(self) -> bytes:
        """The token's bytes."""
        return self.text.encode() if self.raw is None else self.raw


class Started(Struct, frozen=True, array_like=True, gc=False, tag="started", forbid_unknown_fields=True):
    """The commit point: prefill is done and the first delta follows at once. Seconds are this request's own.

    `prompt_tokens` is None where the engine learns it at the end only: then `Finished.usage` says it. `prompt_ids` are
    its tokens, told with `Sampling.token_ids`. `model` is the gateway's to fill in, where an answer comes from another
    model than the one that was chosen for it.
    """

    prompt_tokens: int | None
    cached_tokens: int = 0
    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None
    prompt_ids: tuple[int, ...] | None = None
    model: str | None = None


class Delta(Struct, frozen=True, array_like=True, gc=False, tag="delta", forbid_unknown_fields=True):
    """A run of `tokens` tokens and the text they complete, which may be empty; neighbours may be joined."""

    text: str
    tokens: int = 1
    reasoning: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()


class TokenDelta(Delta, frozen=True, array_like=True, gc=False, tag="token_delta", forbid_unknown_fields=True):
    """A `Delta` that tells the `ids` of its tokens too, for a request with `Sampling.token_ids`.

    It is a struct of its own, so that the others cost nothing more.
    """

    ids: tuple[int, ...] = ()


class ToolDelta(Struct, frozen=True, array_like=True, gc=False, tag="tool_delta", forbid_unknown_fields=True):
    """A piece of the call number `index`; `id` and `name` come with its first piece."""

    index: int
    arguments: str = ""
    id: str = ""
    name: str = ""
    tokens: int = 0


class Finished(Struct, frozen=True, array_like=True, gc=False, tag="finished", forbid_unknown_fields=True):
    """The end; `stop` is the stop string or stop token that was met, if one was."""

    reason: FinishReason
    usage: Usage
    stop: str | int | None = None


GenerateEvent = Started | Delta | TokenDelta | ToolDelta | Finished


class TokenSpelling(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A token by itself: the string that its vocabulary has for it, and the bytes that it stands for in a text."""

    text: str
    data: bytes


class PromptReading(Struct, frozen=True, forbid_unknown_fields=True):
    """What an engine would read for a request that it has not begun, each as far as it is known.

    `ids` are the tokens, `prompt_tokens` is their number, and `text` what the template writes. `cached_tokens` of them
    would not be computed again; `max_tokens` are the most that the answer may have.
    """

    prompt_tokens: int | None = None
    ids: tuple[int, ...] | None = None
    text: str | None = None
    cached_tokens: int | None = None
    max_tokens: int | None = None


class Embeddings(Struct, frozen=True, forbid_unknown_fields=True):
    """One vector an input, in order, each as the bytes of its numbers: float32, the lowest byte first."""

    vectors: tuple[bytes, ...]
    prompt_tokens: int


class TextScores(Struct, frozen=True, forbid_unknown_fields=True):
    """One row a document, in order, as the bytes of its numbers: float32, the lowest byte first.

    A row has one number for a pair, else one for each of the `labels`, in their order.
    """

    rows: tuple[bytes, ...]
    prompt_tokens: int
    labels: tuple[str, ...] = ()
