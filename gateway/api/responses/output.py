"""The items of an answer as its events come: the same ones whether it is streamed or told as a whole."""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct

from gateway.api.exchange.scores import known_bytes, to_number
from gateway.api.responses.items import (
    NO_SCORES,
    FunctionCallItem,
    ItemStatus,
    OutputItem,
    OutputMessage,
    OutputText,
    PossibleToken,
    ReasoningItem,
    ScoredToken,
    ThoughtText,
)
from gateway.api.responses.sealed import seal
from gateway.engine import Delta, TokenLogprob, ToolDelta

_MARKS = {"message": "msg", "reasoning": "rs", "function_call": "fc"}

Kind = Literal["message", "reasoning", "function_call"]

_encode = msgspec.json.Encoder().encode


class ItemStep(Struct, frozen=True):
    """What an event does to an item: it begins, has more text, whose tokens have `scores`, or is over."""

    item: "WrittenItem"
    step: Literal["begin", "more", "end"]
    text: str = ""
    scores: Raw = NO_SCORES


class WrittenItem:
    """An item that is being written; a call has its `number`, `call_id` and `name`.

    `scores` are those of its tokens, encoded, where `is_scored` says that there are any. A thought that `is_sealed` is
    told in one word, too, once it is over.
    """

    def __init__(self, kind: Kind, identity: str, index: int, call: ToolDelta | None = None) -> None:
        self.kind = kind
        self.id = identity
        self.index = index
        self.number = -1 if call is None else call.index
        self.call_id = "" if call is None else call.id
        self.name = "" if call is None else call.name
        self.is_over = self.is_scored = self.is_sealed = False
        self.texts: list[str] = []
        self._scores: list[bytes] = []

    @property
    def text(self) -> str:
        """All that was written up to now."""
        return "".join(self.texts)

    @property
    def scores(self) -> Raw:
        """The scores of all tokens that were written up to now."""
        return _listed(self._scores) if self._scores else NO_SCORES

    def part(self) -> OutputText | ThoughtText:
        """Return the text as a part."""
        return ThoughtText(self.text) if self.kind == "reasoning" else self._said()

    def write(self, text: str, tokens: Sequence[TokenLogprob] = ()) -> ItemStep:
        """Add more text, and what is known of its tokens."""
        self.texts.append(text)
        if not tokens:
            return ItemStep(self, "more", text)
        scores = [_encode(_to_scored(token)) for token in tokens]
        self._scores += scores
        return ItemStep(self, "more", text, _listed(scores))

    def to_item(self, status: ItemStatus, *, is_empty: bool = False) -> OutputItem:
        """Return the item as it stands, or as it began."""
        text = "" if is_empty else self.text
        match self.kind:
            case "function_call":
                return FunctionCallItem(self.id, self.call_id, self.name, text, status)
            case "reasoning":
                sealed = seal(text) if self.is_sealed and status != "in_progress" else UNSET
                return ReasoningItem(self.id, status, [] if is_empty else [ThoughtText(text)], [], sealed)
            case _:
                return OutputMessage(self.id, status, [] if is_empty else [self._said()])

    def _said(self) -> OutputText:
        return OutputText(self.text, logprobs=self.scores)


class OutputItems:
    """The items of one answer, one open at a time. What comes after an item of another kind begins a new one.

    Thoughts are sealed with `is_sealed`.
    """

    def __init__(self, answer_id: str, *, is_sealed: bool = False) -> None:
        self._answer_id = answer_id
        self._is_sealed = is_sealed
        self.items: list[WrittenItem] = []
        self.open: WrittenItem | None = None
        self._pending: list[TokenLogprob] = []  # of tokens whose text has not come yet

    def add(self, event: Delta | ToolDelta) -> Iterator[ItemStep]:
        """Yield what an event does to the items."""
        if isinstance(event, ToolDelta):
            self._pending = []
            if self.open is None or self.open.number != event.index:
                yield from self._begin("function_call", event)
            yield from self._more(event.arguments)
            return
        if event.logprobs:
            self._pending += event.logprobs
        if event.reasoning:  # a thought has no scores
            self._pending = _last(self._pending, len(event.text.encode()))
        yield from self._write("reasoning", event.reasoning)
        yield from self._write("message", event.text)

    def close(self) -> Iterator[ItemStep]:
        """End the item that is open."""
        if self.open is not None:
            self.open.is_over = True
            yield ItemStep(self.open, "end")
            self.open = None

    def to_items(self, unfinished: ItemStatus) -> list[OutputItem]:
        """Return all items; one that is open has the status `unfinished`."""
        return [item.to_item("completed" if item.is_over else unfinished) for item in self.items]

    def _write(self, kind: Kind, text: str) -> Iterator[ItemStep]:
        if not text:
            return
        if self.open is None or self.open.kind != kind:
            if self.items:  # nor have marks between the items
                self._pending = _last(self._pending, len(text.encode()))
            yield from self._begin(kind, None)
        yield from self._more(text)

    def _begin(self, kind: Kind, call: ToolDelta | None) -> Iterator[ItemStep]:
        yield from self.close()
        index = len(self.items)
        self.open = WrittenItem(kind, f"{_MARKS[kind]}_{self._answer_id}_{index}", index, call)
        self.open.is_scored = kind == "message" and bool(self._pending)
        self.open.is_sealed = kind == "reasoning" and self._is_sealed
        self.items.append(self.open)
        yield ItemStep(self.open, "begin")

    def _more(self, text: str) -> Iterator[ItemStep]:
        if not text or self.open is None:
            return
        if self.open.kind == "message" and self._pending:
            tokens, self._pending = self._pending, []
            yield self.open.write(text, tokens)
        else:
            yield self.open.write(text)


def _listed(scores: Sequence[bytes]) -> Raw:
    return Raw(b"[%b]" % b",".join(scores))


def _last(tokens: list[TokenLogprob], size: int) -> list[TokenLogprob]:
    """Return the last tokens, as many as it takes to spell so many bytes."""
    count = 0
    while size > 0 and count < len(tokens):
        count += 1
        size -= len(tokens[-count].encoded)
    return tokens[len(tokens) - count :]


def _to_scored(token: TokenLogprob) -> ScoredToken:
    top = [PossibleToken(other.text, known_bytes(other) or [], to_number(other.logprob)) for other in token.top]
    return ScoredToken(token.text, known_bytes(token) or [], to_number(token.logprob), top)
