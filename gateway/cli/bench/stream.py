"""Streamed answers, OpenAI's and the gateway's own, as Server-Sent Events."""

import time

import aiohttp
import msgspec
from msgspec import Struct

from gateway.cli.bench.sample import Sample


class PromptDetails(Struct):
    """Where the prompt's tokens came from."""

    cached_tokens: int | None = None


class TokenUsage(Struct):
    """The token counts of the server."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None


class ErrorFrame(Struct):
    """The body of an error."""

    code: str | int | None = None
    type: str | None = None


class Piece(Struct):
    """A piece of a chat's message."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class ChoiceFrame(Struct):
    """One of the answers; only one is asked for."""

    text: str | None = None
    delta: Piece | None = None
    finish_reason: str | None = None


class Frame(Struct):
    """A frame of any dialect: the gateway's own has the text and the reason beside the usage, OpenAI's in a choice."""

    text: str | None = None
    choices: list[ChoiceFrame] = []
    finish_reason: str | None = None
    usage: TokenUsage | None = None
    error: ErrorFrame | str | None = None


class RefusalBody(Struct):
    """The body of an answer that is none."""

    error: ErrorFrame | str | None = None
    code: str | int | None = None


_frame = msgspec.json.Decoder(Frame).decode
_refusal = msgspec.json.Decoder(RefusalBody).decode


class Transcript:
    """Takes a stream's bytes in and notes in the sample what they say, and when."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._rest = b""
        self._whole = False

    def feed(self, data: bytes, now: float) -> None:
        """Take what arrived at the time `now`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._sample.ended = now
                self._read(line[5:].strip(), now)

    def close(self) -> None:
        """Say that nothing more comes: without an end it was broken off."""
        if not self._whole and self._sample.error is None:
            self._sample.error = "broken off" if self._sample.frames else "no stream"

    def _read(self, content: bytes, now: float) -> None:
        if content == b"[DONE]":
            self._whole = True
            return
        try:
            frame = _frame(content)
        except msgspec.MsgspecError:
            self._sample.error = "unreadable frame"
            return
        if frame.error is not None:
            self._sample.error = f"in the stream: {_code(frame.error)}"
        if frame.text or any(map(_speaks, frame.choices)):
            self._sample.hear(now)
        if frame.finish_reason or any(choice.finish_reason for choice in frame.choices):
            self._whole = True
        if frame.usage is not None:
            _count(frame.usage, self._sample)


async def listen(content: aiohttp.StreamReader, sample: Sample) -> None:
    """Read a stream to its end."""
    transcript = Transcript(sample)
    while data := await content.readany():
        transcript.feed(data, time.monotonic())
    transcript.close()


def refused(status: int, body: bytes) -> str:
    """Say a refusal in short: its status, and the code where it has one."""
    try:
        refusal = _refusal(body)
    except msgspec.MsgspecError:
        return str(status)
    code = _code(refusal.error) if refusal.error is not None else refusal.code
    return str(status) if code is None or str(code) == str(status) else f"{status} {code}"


def _speaks(choice: ChoiceFrame) -> bool:
    piece = choice.delta
    return bool(choice.text or (piece and (piece.content or piece.reasoning_content or piece.reasoning)))


def _count(usage: TokenUsage, sample: Sample) -> None:
    sample.prompt_tokens, sample.output_tokens = usage.prompt_tokens, usage.completion_tokens
    if usage.prompt_tokens_details is not None:
        sample.cached_tokens = usage.prompt_tokens_details.cached_tokens


def _code(error: ErrorFrame | str) -> str:
    return "error" if isinstance(error, str) else str(error.code or error.type or "error")
