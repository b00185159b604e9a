"""Tell apart what a model writes: text, thoughts and calls, from pieces of any size.

The whole text decides, never how it was split: a piece is said as soon as nothing that follows can change what it is.
White space beside a call or a thought belongs to the form; all other text is kept. A call that cannot be read, that
names a tool which may not be called, or that does not end, is text.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from gateway.engine import Tool, overlap
from gateway_hf.tools.answer_events import AnswerEvents, Written
from gateway_hf.tools.forms import NAME, NO_CALLS, CallForm
from gateway_hf.tools.thoughts import ThoughtForm
from gateway_hf.tools.values import ReadCall, ValueScan, json_rules

# Between the marker of a call and its value stands less than this.
_LONGEST_HEAD = 400


class AnswerReading(NamedTuple):
    """What one answer is read for: calls of these tools in this form, thoughts in that.

    `is_held` says that a grammar holds the calls to the written form, so that arguments can be said as they come.
    """

    calls: CallForm = NO_CALLS
    thoughts: ThoughtForm | None = None
    tools: Mapping[str, Tool] = MappingProxyType({})
    is_thinking: bool = False
    is_held: bool = False


def marks_of(form: CallForm, thoughts: ThoughtForm | None) -> list[str]:
    """List the texts in which every mark stands that an answer is told apart by."""
    marks = [*thoughts.opens, thoughts.close] if thoughts else []
    marks += [*form.begins, form.end, *form.dropped, form.head.replace("\\", "")]
    return [*marks, *form.written.call, *form.written.block, form.written.arguments]


class AnswerParser:
    """Reads one answer; `feed` and `finish` return what became certain, as deltas that count no tokens."""

    def __init__(self, reading: AnswerReading) -> None:
        self._reading = reading
        self._form = form = reading.calls
        self._scan = ValueScan(json_rules)
        self._ends = False
        self._marker = self._rest = ""
        self._at = self._from = 0
        self._name: str | None = None
        self._out = AnswerEvents(form.id_length)
        thoughts = reading.thoughts
        self._opens, self._closed = (thoughts.opens, thoughts.close) if thoughts else ((), "")
        self._markers = (*form.begins, *form.dropped, *self._opens)
        self._marked = re.compile("|".join(map(re.escape, sorted(self._markers, key=len, reverse=True))) or "(?!)")
        self._held = _HeldCall(form) if reading.is_held and form.written.arguments == "json" else None
        self._state: Callable[[], bool] = self._think if reading.is_thinking else self._begin

    @property
    def calls(self) -> int:
        """How many calls have begun."""
        return self._out.calls

    @property
    def is_thinking(self) -> bool:
        """Whether what comes next is a thought."""
        return self._state == self._think

    def feed(self, text: str) -> list[Written]:
        """Take the next piece."""
        self._rest += text
        return self._run()

    def finish(self) -> list[Written]:
        """Return what was held back: the answer has ended."""
        self._ends = True
        return self._run()

    def _run(self) -> list[Written]:
        while self._state():
            pass
        if self._ends and self._state == self._text:
            self._out.end()
        return self._out.take()

    def _begin(self) -> bool:
        """Find out whether the answer begins with a call that has no marker."""
        bare = self._form.bare
        found = self._rest.lstrip(" \t\r\n;" if self.calls else None) if bare else self._rest
        if bare and not found and not self._ends:
            return False
        if bare and found and found[0] in bare:
            self._marker, self._rest = self._rest[: len(self._rest) - len(found)], found
            self._state = self._value if self._held is None else self._held_begin
            self._at = 0
        else:
            self._state = self._text
        return True

    def _text(self) -> bool:
        found = self._marked.search(self._rest)
        if found is not None:
            self._out.say(self._rest[: found.start()])
            self._rest, self._at = self._rest[found.end() :], 0
            self._open(found[0])
            return True
        keep = 0 if self._ends else max((overlap(self._rest, mark) for mark in self._markers), default=0)
        ready = len(self._rest) - keep
        self._out.say(self._rest[:ready])
        self._rest = self._rest[ready:]
        return False

    def _open(self, marker: str) -> None:
        self._marker = marker
        if marker in self._opens:
            self._state = self._think
            self._out.begin_thought()
        elif marker in self._form.dropped:
            self._leave_marker()
        else:
            self._state = self._value if self._held is None else self._held_begin

    def _leave_marker(self) -> None:
        """Go on behind what belongs to the form: white space there does, too."""
        self._out.leave_marker()
        self._state = self._text

    def _think(self) -> bool:
        close = self._closed
        at = self._rest.find(close)
        if at < 0:
            ready = len(self._rest) - (0 if self._ends else overlap(self._rest, close))
            self._out.reason(self._rest[:ready])
            self._rest = self._rest[ready:]
            return False
        self._out.reason(self._rest[:at])
        self._rest = self._rest[at + len(close) :]
        self._out.end_thought()
        self._leave_marker()
        if not self.calls:
            self._state = self._begin
        return True

    def _value(self) -> bool:
        """Read on in a call until its value is whole."""
        form = self._form
        if not self._at:
            head = re.match(form.head + (r"(?=[\[{])" if form.rules else ""), self._rest[:_LONGEST_HEAD])
            if head is None:
                return self._refuse(0) if self._ends or len(self._rest) >= _LONGEST_HEAD else False
            if form.rules is None:
                return self._value_to_marker(form, head.end())
            self._name, self._from = head.groupdict().get("name"), head.end()
            self._scan, self._at = ValueScan(form.rules), head.end()
        end = self._scan.end(self._rest[self._at :])
        if end is None:
            self._at = len(self._rest)
            return self._refuse(self._at) if self._ends else False
        end += self._at
        read = form.reader(self._name, self._rest[self._from : end], self._reading.tools)
        return self._take(read, end)

    def _value_to_marker(self, form: CallForm, begin: int) -> bool:
        at = self._rest.find(form.end, begin)
        if at < 0 and not self._ends:
            return False
        end = at if at >= 0 else len(self._rest)
        return self._take(form.reader(None, self._rest[begin:end], self._reading.tools), end)

    def _take(self, read: list[ReadCall] | None, end: int) -> bool:
        """Say the calls that were read up to `end`."""
        if not read or any(call.name not in self._reading.tools for call in read):
            return self._refuse(end)
        for call in read:
            self._out.call(call.name, call.arguments)
        self._rest, self._at = self._rest[end:], 0
        self._leave_marker()
        self._state = self._close
        return True

    def _close(self) -> bool:
        """Drop the marker that closes a call, where there is one."""
        form = self._form
        found = self._rest.lstrip()
        if form.end and found.startswith(form.end):
            self._rest = found[len(form.end) :]
        elif form.end.startswith(found):
            if not self._ends:
                return False
            self._rest = ""
        self._state = self._begin if form.bare else self._text
        return True

    def _refuse(self, end: int) -> bool:
        """Let what looked like a call be text, up to `end`; what follows is read anew."""
        self._out.say(self._marker + self._rest[:end])
        self._rest, self._at = self._rest[end:], 0
        self._state = self._text
        return True

    def _held_begin(self) -> bool:
        """Go on with a call that a grammar holds to its form."""
        held = self._held
        if held is None:
            return False
        pieces = held.feed(self._marker + self._rest)
        self._marker = self._rest = ""
        for name, arguments in pieces:
            if name:
                self._out.call(name, arguments)
            elif arguments:
                self._out.go_on(arguments)
        if self._ends and not self.calls:
            self._out.say(held.waiting)
        return False


class _HeldCall:
    """Reads calls whose form a grammar holds: their arguments are sound from the first character on."""

    def __init__(self, form: CallForm) -> None:
        before, behind, _ = form.written.call
        self._head = re.compile(f"{re.escape(before)}({NAME}){re.escape(behind)}")
        self._scan: ValueScan | None = None
        self.waiting = ""

    def feed(self, text: str) -> list[tuple[str, str]]:
        """Take the next piece and return names, each where its call begins, and pieces of arguments."""
        pieces: list[tuple[str, str]] = []
        while True:
            if self._scan is not None:
                end = self._scan.end(text)
                pieces.append(("", text[:end]))
                if end is None:
                    return pieces
                self._scan, text = None, text[end:]
            self.waiting += text
            head = self._head.search(self.waiting)
            if head is None:
                return pieces
            pieces.append((head[1], ""))
            text, self.waiting = self.waiting[head.end() :], ""
            self._scan = ValueScan(json_rules)
