"""The items of an answer as its events come: the same ones whether it is streamed or told as a whole."""

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from gateway.api.responses.items import (
    FunctionCallItem,
    ItemStatus,
    OutputItem,
    OutputMessage,
    OutputText,
    ReasoningItem,
    ThoughtText,
)
from gateway.engine import Delta, ToolDelta

_MARKS = {"message": "msg", "reasoning": "rs", "function_call": "fc"}

Kind = Literal["message", "reasoning", "function_call"]


class ItemStep(Struct, frozen=True):
    """What an event does to an item: it begins, has more text, or is over."""

    item: "WrittenItem"
    step: Literal["begin", "more", "end"]
    text: str = ""


class WrittenItem:
    """An item that is being written; a call has its `number`, `call_id` and `name`."""

    def __init__(self, kind: Kind, identity: str, index: int, call: ToolDelta | None = None) -> None:
        self.kind = kind
        self.id = identity
        self.index = index
        self.number = -1 if call is None else call.index
        self.call_id = "" if call is None else call.id
        self.name = "" if call is None else call.name
        self.is_over = False
        self.texts: list[str] = []

    @property
    def text(self) -> str:
        """All that was written up to now."""
        return "".join(self.texts)

    def part(self) -> OutputText | ThoughtText:
        """Return the text as a part."""
        return ThoughtText(self.text) if self.kind == "reasoning" else OutputText(self.text)

    def to_item(self, status: ItemStatus, *, is_empty: bool = False) -> OutputItem:
        """Return the item as it stands, or as it began."""
        text = "" if is_empty else self.text
        match self.kind:
            case "function_call":
                return FunctionCallItem(self.id, self.call_id, self.name, text, status)
            case "reasoning":
                return ReasoningItem(self.id, status, [] if is_empty else [ThoughtText(text)])
            case _:
                return OutputMessage(self.id, status, [] if is_empty else [OutputText(text)])


class OutputItems:
    """The items of one answer, one open at a time. What comes after an item of another kind begins a new one."""

    def __init__(self, answer_id: str) -> None:
        self._answer_id = answer_id
        self.items: list[WrittenItem] = []
        self.open: WrittenItem | None = None

    def add(self, event: Delta | ToolDelta) -> Iterator[ItemStep]:
        """Yield what an event does to the items."""
        if isinstance(event, ToolDelta):
            if self.open is None or self.open.number != event.index:
                yield from self._begin("function_call", event)
            yield from self._more(event.arguments)
            return
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
        if text and (self.open is None or self.open.kind != kind):
            yield from self._begin(kind, None)
        yield from self._more(text)

    def _begin(self, kind: Kind, call: ToolDelta | None) -> Iterator[ItemStep]:
        yield from self.close()
        index = len(self.items)
        self.open = WrittenItem(kind, f"{_MARKS[kind]}_{self._answer_id}_{index}", index, call)
        self.items.append(self.open)
        yield ItemStep(self.open, "begin")

    def _more(self, text: str) -> Iterator[ItemStep]:
        if text and self.open is not None:
            self.open.texts.append(text)
            yield ItemStep(self.open, "more", text)
