"""Turn the frames of one answer into events."""

from collections.abc import Iterable

from gateway.engine import (
    Delta,
    EngineError,
    Finished,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    Started,
    StopStrings,
    TokenDelta,
    TokenLogprob,
    Usage,
)
from gateway_llamacpp.constraints import find_fault
from gateway_llamacpp.dialect import CompletionFrame, PromptProgress, TokenChance, read_frame
from gateway_llamacpp.vocabulary import GgufVocabulary

_REASONS = {"eos": FinishReason.STOP, "limit": FinishReason.LENGTH}


class CompletionReader:
    """Takes the frames of one stream. `made` counts the tokens of the answer, and `ended` says that it has ended.

    The server keeps a token to itself until its characters are whole; the frame that follows counts it, and says
    neither its id nor its log probability.
    """

    def __init__(self, request: GenerateRequest, ids: tuple[int, ...], vocabulary: GgufVocabulary) -> None:
        sampling = request.sampling
        self._ids = ids
        self._vocabulary = vocabulary
        self._constraint = request.constraint
        self._shown = bool(sampling.include_stop_str_in_output)
        self._stops = StopStrings(sampling.stop or (), shown=self._shown)
        self._stop_ids = frozenset(sampling.stop_token_ids or ())
        self._ranks = sampling.logprobs
        self._tells_ids = bool(sampling.token_ids)
        self._progress = PromptProgress(len(ids))
        self._text: list[str] = []
        self._has_begun = False
        self.queue_seconds = 0.0
        self.made = 0
        self.ended = False

    def take(self, found: Iterable[bytes]) -> list[GenerateEvent]:
        """Return the events of the next frames."""
        events: list[GenerateEvent] = []
        for data in found:
            if not self.ended:
                self._take(read_frame(data), events)
        return events

    def _take(self, frame: CompletionFrame, events: list[GenerateEvent]) -> None:
        if frame.prompt_progress is not None:
            self._progress = frame.prompt_progress
            return
        if not self._has_begun:
            self._has_begun = True
            events.append(self._started())
        made, self.made = frame.tokens_predicted - self.made, frame.tokens_predicted
        stop = next((token for token in frame.tokens if token in self._stop_ids), None)
        text = self._stops.feed("" if stop is not None and not self._shown else frame.content)
        if self._stops.found is None and (frame.stop or stop is not None):
            text += self._stops.flush()
        if made or text:
            events.append(self._delta(frame, text, made))
        if self._constraint is not None:
            self._text.append(text)
        if self._stops.found is not None:
            self._end(events, FinishReason.STOP, self._stops.found)
        elif stop is not None:
            self._end(events, FinishReason.STOP, stop)
        elif frame.stop:
            self._end(events, self._reason(frame.stop_type), None)

    def _started(self) -> Started:
        return Started(
            len(self._ids),
            cached_tokens=self._progress.cache,
            queue_seconds=self.queue_seconds,
            prefill_seconds=self._progress.time_ms / 1000,
            prompt_ids=self._ids if self._tells_ids else None,
        )

    def _delta(self, frame: CompletionFrame, text: str, made: int) -> Delta:
        logprobs: tuple[TokenLogprob, ...] = ()
        if made != len(frame.tokens) and (self._tells_ids or self._ranks is not None):
            raise EngineError("llama-server does not tell the tokens of a character of several tokens apart")
        if self._ranks is not None:
            logprobs = tuple(self._scored(score) for score in frame.completion_probabilities)
        if self._tells_ids:
            return TokenDelta(text, made, "", logprobs, frame.tokens)
        return Delta(text, made, "", logprobs)

    def _scored(self, score: TokenChance) -> TokenLogprob:
        top = tuple(self._vocabulary.scored(each.id, each.logprob) for each in score.top_logprobs[: self._ranks])
        if self._vocabulary.is_control(score.id):  # it is not shown in the answer
            return TokenLogprob(score.id, "", score.logprob, top)
        return self._vocabulary.scored(score.id, score.logprob, top)

    def _reason(self, stop_type: str) -> FinishReason:
        if stop_type not in _REASONS:
            raise EngineError("llama-server ended its answer and does not say why")
        reason = _REASONS[stop_type]
        if reason is FinishReason.STOP and self._constraint is not None:
            fault = find_fault(self._constraint, "".join(self._text))
            if fault is not None:
                raise EngineError(f"the model ended its answer, and {fault}")
        return reason

    def _end(self, events: list[GenerateEvent], reason: FinishReason, stop: str | int | None) -> None:
        self.ended = True
        usage = Usage(len(self._ids), self.made, self._progress.cache)
        events.append(Finished(reason, usage, stop))
