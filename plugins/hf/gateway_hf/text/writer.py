"""Turn the tokens drawn for one answer into its events: text as it becomes certain, then the reason of its end."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, cast

from msgspec import structs

from gateway.engine import Delta, Finished, FinishReason, GenerateEvent, StopStrings, TokenDelta, TokenLogprob, Usage
from gateway_hf.sampling.terms import Terms
from gateway_hf.scheduling.sequence import Alternative, Drawn

# What a token gives, before it is told apart what of it is a call or a thought.
OneToken = tuple[Delta] | tuple[Delta, Finished]
# What JSON has a number for; the log probability of the impossible is minus infinity.
LEAST_LOGPROB = -9999.0


class TokenName(NamedTuple):
    """What a token adds to a text, and its bytes where these are no whole characters."""

    text: str
    raw: bytes | None = None


def scored(token: Alternative, name: TokenName, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    """Put a token that was scored into the words of the interface."""
    return TokenLogprob(token.id, name.text, max(token.logprob, LEAST_LOGPROB), top, name.raw)


class TokenDecoder(Protocol):
    """Tokens in, text out; holds back bytes that are not yet a character."""

    def feed(self, token: int, /) -> str:
        """Take a token and return the text it completes."""
        ...

    def flush(self) -> str:
        """Return the text that was held back."""
        ...


class Writer:
    """Writes one answer; a token gives one delta, the last one also the `Finished`.

    `cached_tokens` is the part of the prompt that was found in the cache, once that is known.
    """

    def __init__(self, prompt_tokens: int, terms: Terms, text: TokenDecoder, name: Callable[[int], TokenName]) -> None:
        self.cached_tokens = 0
        self._prompt_tokens = prompt_tokens
        self._terms = terms
        self._text = text
        self._name = name
        self._stops = StopStrings(terms.stop, shown=terms.include_stop_str_in_output)
        self._end_ids = terms.end_ids
        self._written = 0

    def write(self, drawn: Drawn) -> Sequence[GenerateEvent]:
        """Take the next token; the first event is its `Delta`, and a second one the `Finished`."""
        self._written += 1
        if drawn.id in self._end_ids:
            return self._last(drawn), self._finished(drawn.id)
        text = self._cut(self._text.feed(drawn.id))
        logprobs = self._named(drawn.logprobs) if drawn.logprobs else ()
        if self._stops.found is None and self._written < self._terms.limit:
            return (Delta(text, logprobs=logprobs),)
        return Delta(text + self._rest(), logprobs=logprobs), self._finished(None)

    def _last(self, drawn: Drawn) -> Delta:
        """End with a token that is not shown, unless that was asked for; a special token has no text."""
        shown = self._cut(self._text.feed(drawn.id)) if self._terms.include_stop_str_in_output else ""
        return Delta(shown + self._rest(), logprobs=self._named(drawn.logprobs) if shown and drawn.logprobs else ())

    def _named(self, ranked: tuple[Alternative, ...]) -> tuple[TokenLogprob]:
        own, *top = [scored(each, self._name(each.id)) for each in ranked]
        return (structs.replace(own, top=tuple(top)),)

    def _cut(self, text: str) -> str:
        return self._stops.feed(text) if self._written > self._terms.min_tokens else text

    def _rest(self) -> str:
        return self._cut(self._text.flush()) + self._stops.flush()

    def _finished(self, end: int | None) -> Finished:
        """Finish: by a stop string, by the token `end`, or by length."""
        stop: str | int | None = self._stops.found
        if stop is None and end in self._terms.stop_token_ids:
            stop = end
        ended = stop is not None or end is not None
        usage = Usage(self._prompt_tokens, self._written, self.cached_tokens)
        return Finished(FinishReason.STOP if ended else FinishReason.LENGTH, usage, stop)


class TellingWriter(Writer):
    """Writes an answer that tells the ids of its tokens, the last one's too."""

    def write(self, drawn: Drawn) -> Sequence[GenerateEvent]:
        """Take the next token."""
        written = cast("OneToken", super().write(drawn))
        delta = written[0]
        told = TokenDelta(delta.text, delta.tokens, delta.reasoning, delta.logprobs, (drawn.id,))
        return (told,) if len(written) == 1 else (told, written[1])
