"""From the frames of an answer to events."""

from collections.abc import Sequence

from gateway.engine import (
    Completion,
    Delta,
    Finished,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    Started,
    TokenDelta,
    TokenLogprob,
    ToolDelta,
    UpstreamFailed,
    Usage,
    continued,
    join_run,
)
from gateway_openai.calls import CallReader
from gateway_openai.chunks import AnswerFrame, FrameChoice, FrameDelta, FrameUsage, read_frame
from gateway_openai.frames import DONE, FrameReader
from gateway_openai.scores import to_logprobs, to_scores

_REASONS = {
    "stop": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
}
# What a server may send or count beyond the tokens that it was allowed: an end of sequence, text that was held back.
_SPARE = 16
_NOTHING = FrameDelta()
_PIECES = (Delta, ToolDelta)


class AnswerReader:
    """Turns the bytes of an answer into events; what lies in one piece of them becomes one delta.

    A frame is not a token: each counts as one when the next comes, and the last as what the server's usage leaves.
    Where ids or logprobs are told, they are counted. Raises `UpstreamFailed` for an answer that breaks off, tells no
    usage, contradicts itself, or goes on beyond `most` tokens.
    """

    def __init__(self, request: GenerateRequest, most: int) -> None:
        self._reader = FrameReader()
        self._calls = CallReader()
        self._request = request
        self._ranks = request.sampling.logprobs
        self._has_ids = bool(request.sampling.token_ids)
        self._most = most + _SPARE
        self._reason: FinishReason | None = None
        self._stop: str | int | None = None
        self._usage: FrameUsage | None = None
        self._pending = 0
        self._told = 0
        self._thought = 0
        self.begun = self.ended = False

    @property
    def is_exact(self) -> bool:
        """Whether the tokens are told one by one, and need no usage to be counted."""
        return self._has_ids or self._ranks is not None

    @property
    def finish(self) -> tuple[FinishReason | None, FrameUsage | None]:
        """The reason and the usage, as far as they came."""
        return self._reason, self._usage

    def feed(self, piece: bytes) -> list[GenerateEvent]:
        """Return the events of the next bytes of a stream; none at all are its end."""
        found: list[GenerateEvent] = []
        for data in self._reader.feed(piece):
            if data == DONE:
                return _joined([*found, *self._end()])
            self._take(read_frame(data), found)
        return _joined(found if piece else [*found, *self._end()])

    def whole(self, body: bytes) -> list[GenerateEvent]:
        """Return the events of a whole answer."""
        found: list[GenerateEvent] = []
        self._take(read_frame(body), found)
        return [*found, *self._end()]

    def _take(self, frame: AnswerFrame, found: list[GenerateEvent]) -> None:
        if frame.usage is not None:
            self._usage = frame.usage
        for choice in frame.choices[:1]:
            delta = choice.delta or choice.message or _NOTHING
            text = choice.text or delta.content or ""
            thought = delta.reasoning_content or delta.reasoning or ""
            if not self.begun and (text or thought or delta.tool_calls or choice.finish_reason or choice.token_ids):
                self.begun = True
                found.append(self._started(frame, choice))
            if text or thought or choice.logprobs is not None or choice.token_ids:
                found.append(self._delta(text, thought, choice))
            if delta.tool_calls:
                found += self._call(delta)
            if choice.finish_reason:
                self._reason = _REASONS.get(choice.finish_reason)
                self._stop = choice.stop_reason

    def _started(self, frame: AnswerFrame, choice: FrameChoice) -> Started:
        ids = choice.prompt_token_ids or frame.prompt_token_ids
        scores = None
        if (ranks := self._request.sampling.prompt_logprobs) is not None:
            told = choice.prompt_logprobs or frame.prompt_logprobs
            if told is None or ids is None or len(told) != len(ids):
                raise UpstreamFailed("the server behind this model does not score its prompt")
            prompt = self._request.prompt
            scores = to_scores(told, ids, prompt.text if isinstance(prompt, Completion) else None, ranks)
        return Started(None, prompt_logprobs=scores, prompt_ids=ids if self._has_ids else None)

    def _delta(self, text: str, thought: str, choice: FrameChoice) -> Delta:
        ids: Sequence[int] = choice.token_ids or ()
        logprobs: tuple[TokenLogprob, ...] = ()
        if self._ranks is not None and choice.logprobs is not None:
            logprobs = to_logprobs(choice.logprobs, choice.token_ids, self._ranks)
        tokens = max(len(ids), len(logprobs)) if self.is_exact else self._count()
        self._told += tokens
        self._thought += tokens if thought else 0
        if self._told > self._most:
            raise UpstreamFailed("the server behind this model does not end its answer")
        if self._has_ids:
            return TokenDelta(text, tokens, thought, logprobs, tuple(ids))
        return Delta(text, tokens, thought, logprobs)

    def _call(self, delta: FrameDelta) -> list[GenerateEvent]:
        pieces: list[ToolDelta] = self._calls.read(delta.tool_calls or ())
        tokens = 0 if self.is_exact else self._count()
        self._told += tokens
        if self._told > self._most:
            raise UpstreamFailed("the server behind this model does not end its answer")
        first, *rest = pieces
        return [ToolDelta(first.index, first.arguments, first.id, first.name, tokens), *rest]

    def _count(self) -> int:
        """Count the frame before this one, if there was one."""
        tokens, self._pending = self._pending, 1
        return tokens

    def _end(self) -> list[GenerateEvent]:
        if self._reason is None:
            raise UpstreamFailed("the server behind this model ended its answer before it was finished")
        if self._usage is None:
            raise UpstreamFailed("the server behind this model did not say how many tokens the answer has")
        usage = self._usage
        if usage.completion_tokens > self._most:
            raise UpstreamFailed("the server behind this model counts more tokens than the answer may have")
        self.ended = True
        made = self._told if self.is_exact else max(usage.completion_tokens, self._told)
        rest = [] if made == self._told else [Delta("", tokens=made - self._told)]
        return [*rest, Finished(self._ended_as(self._reason), self._counted(usage, made), self._named_stop())]

    def _counted(self, usage: FrameUsage, made: int) -> Usage:
        cached = (usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens) or 0
        details = usage.completion_tokens_details
        thought = self._thought if details is None or details.reasoning_tokens is None else details.reasoning_tokens
        return Usage(usage.prompt_tokens, made, min(cached, usage.prompt_tokens), min(thought, made))

    def _ended_as(self, reason: FinishReason) -> FinishReason:
        """Say `tool_calls` where there are calls, and only there, whatever the server calls it."""
        if reason is FinishReason.LENGTH:
            return reason
        return FinishReason.TOOL_CALLS if self._calls.count else FinishReason.STOP

    def _named_stop(self) -> str | int | None:
        """Name the stop that was met where the server does, and it is one that was asked for."""
        sampling = self._request.sampling
        asked = (*(sampling.stop or ()), *(sampling.stop_token_ids or ()))
        return self._stop if self._stop in asked else None


def _joined(events: list[GenerateEvent]) -> list[GenerateEvent]:
    """Join the deltas that lie side by side; thoughts stay apart from texts."""
    if len(events) < 2:  # noqa: PLR2004 - nothing to join
        return events
    found: list[GenerateEvent] = []
    run: list[Delta | ToolDelta] = []
    for event in events:
        if run and continued(run, event) is None:
            found.append(join_run(run))
            run = []
        if isinstance(event, _PIECES):
            run.append(event)
        else:
            found.append(event)
    return [*found, join_run(run)] if run else found
