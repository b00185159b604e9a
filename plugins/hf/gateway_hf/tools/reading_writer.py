"""Write an answer that holds calls or thoughts: each token's text goes through the parser, and its events come out."""

from collections.abc import Callable, Sequence
from typing import cast

from msgspec import structs

from gateway.engine import Delta, Finished, FinishReason, GenerateEvent, TokenDelta, TokenLogprob
from gateway_hf.sampling.terms import Terms
from gateway_hf.scheduling.sequence import Drawn
from gateway_hf.text.codec import TextCodec
from gateway_hf.text.token_names import TokenNames
from gateway_hf.text.writer import OneToken, TellingWriter, TokenDecoder, TokenName, Writer
from gateway_hf.tools.answer_events import Written
from gateway_hf.tools.parser import AnswerParser, AnswerReading


class ReadingWriter(Writer):
    """Writes one answer; the first event of a token counts it. Stop strings are looked for in text, not in calls."""

    def __init__(
        self,
        prompt_tokens: int,
        terms: Terms,
        text: TokenDecoder,
        name: Callable[[int], TokenName],
        reading: AnswerReading,
    ) -> None:
        super().__init__(prompt_tokens, terms, text, name)
        self._parser = AnswerParser(reading)
        self.reasoning_tokens = 0

    @property
    def is_thinking(self) -> bool:
        """Whether the answer is inside a thought."""
        return self._parser.is_thinking

    def write(self, drawn: Drawn) -> Sequence[GenerateEvent]:
        """Take the next token."""
        was_thinking = self._parser.is_thinking
        said, *ends = cast("OneToken", super().write(drawn))
        pieces = self._parser.feed(said.text)
        self.reasoning_tokens += was_thinking or self._parser.is_thinking
        if ends:
            pieces = [*pieces, *self._parser.finish()]
        events = self._shown(pieces)
        if ends or self._stops.found is not None:
            rest = self._stops.flush()
            events = [*events, Delta(rest, 0)] if rest else events
            last = self._end(ends[0] if ends else self._finished(None))
            return [*self._counted(events, drawn.id, said.logprobs), last]
        return self._counted(events, drawn.id, said.logprobs)

    def _shown(self, pieces: list[Written]) -> list[Written]:
        """Cut text at a stop string; what it held back comes before whatever is no text."""
        if not self._terms.stop:
            return pieces
        events: list[Written] = []
        for piece in pieces:
            if isinstance(piece, Delta) and piece.text:
                text = super()._cut(piece.text)
            else:
                text = self._stops.flush()
                events += [Delta(text, 0)] if text else []
                events.append(piece)
                continue
            events += [Delta(text, 0)] if text else []
            if self._stops.found is not None:
                break
        return events

    def _cut(self, text: str) -> str:
        return text

    def _rest(self) -> str:
        return self._text.flush()

    def _end(self, last: Finished) -> Finished:
        """Say that calls were made, how much was thought, and which stop string was met at the very end."""
        if self._stops.found is not None and last.stop is None:
            last = self._finished(None)
        usage = structs.replace(last.usage, reasoning_tokens=self.reasoning_tokens)
        made = self._parser.calls and last.reason is FinishReason.STOP
        return structs.replace(last, reason=FinishReason.TOOL_CALLS if made else last.reason, usage=usage)

    def _counted(self, events: list[Written], token: int, logprobs: tuple[TokenLogprob, ...]) -> list[GenerateEvent]:
        """Count the token in the first of its events; one that says nothing yet has an empty delta."""
        tells = self._terms.token_ids
        if not events or ((logprobs or tells) and not isinstance(events[0], Delta)):
            events = [Delta("", 0), *events]
        first, *others = events
        if not isinstance(first, Delta):
            return [structs.replace(first, tokens=1), *others]
        if tells:
            return [TokenDelta(first.text, 1, first.reasoning, logprobs, (token,)), *others]
        return [Delta(first.text, 1, first.reasoning, logprobs), *others]


def make_writer(
    text: TextCodec, ids: list[int], terms: Terms, names: TokenNames, reading: AnswerReading | None
) -> Writer:
    """Make the writer of an answer; where nothing is to be told apart, one that costs nothing more."""
    if reading is not None:
        return ReadingWriter(len(ids), terms, text.detokenizer(ids, marked=True), names, reading)
    return (TellingWriter if terms.token_ids else Writer)(len(ids), terms, text.detokenizer(ids), names)
