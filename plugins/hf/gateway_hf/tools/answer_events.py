"""Gather what an answer says into events; white space beside a call or a thought belongs to the form."""

import secrets
import string

from gateway.engine import Delta, ToolDelta

Written = Delta | ToolDelta
_LETTERS = string.ascii_letters + string.digits


class AnswerEvents:
    """The events of one answer, which count no tokens; ids of calls have `id_length` characters where that is set."""

    def __init__(self, id_length: int | None) -> None:
        self.calls = 0
        self._id_length = id_length
        self._out: list[Written] = []
        self._space = ""
        self._thought = self._behind_marker = False

    def take(self) -> list[Written]:
        """Return what came since the last time."""
        out, self._out = self._out, []
        return out

    def leave_marker(self) -> None:
        """Go on behind what belongs to the form: white space there does, too."""
        self._behind_marker = True

    def begin_thought(self) -> None:
        """Leave the text, and white space at its end."""
        self._thought, self._space = False, ""

    def end_thought(self) -> None:
        """Leave a thought, and white space at its end."""
        self._space = ""

    def end(self) -> None:
        """Say the white space at the end of an answer that is all text."""
        if self._space and not self.calls:
            self._add(self._space, "")
        self._space = ""

    def go_on(self, arguments: str) -> None:
        """Say a part of the last call's arguments."""
        self._out.append(ToolDelta(self.calls - 1, arguments))

    def call(self, name: str, arguments: str) -> None:
        """Begin a call, with what is known of its arguments."""
        length = self._id_length
        number = f"call_{secrets.token_hex(12)}" if length is None else _letters(length)
        self._out.append(ToolDelta(self.calls, arguments, number, name))
        self.calls += 1

    def say(self, text: str) -> None:
        """Say text, but for white space that may stand beside a call."""
        if self._behind_marker:
            text = text.lstrip()
        if not text:
            return
        self._behind_marker = False
        text = self._space + text
        kept = text.rstrip()
        self._space = text[len(kept) :]
        if kept:
            self._add(kept, "")

    def reason(self, text: str) -> None:
        """Say a part of a thought, but for white space at its ends."""
        if not self._thought:
            text = text.lstrip()
        if not text:
            return
        self._thought = True
        text = self._space + text
        kept = text.rstrip()
        self._space = text[len(kept) :]
        if kept:
            self._add("", kept)

    def _add(self, text: str, reasoning: str) -> None:
        last = self._out[-1] if self._out else None
        if isinstance(last, Delta) and bool(last.text) == bool(text):
            self._out[-1] = Delta(last.text + text, 0, last.reasoning + reasoning)
        else:
            self._out.append(Delta(text, 0, reasoning))


def _letters(count: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(count))
