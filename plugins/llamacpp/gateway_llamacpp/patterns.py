r"""A regular expression as a rule of llama-server's grammars, which know no other way to hold an answer to one.

The dialect is what Rust's `regex`, Python's `re` and JavaScript have in common. `\d` and `\w` are ASCII alone, a part
of their meaning elsewhere, so a drawn text matches the pattern there too. What has no form in a grammar is refused.
"""

import re
from typing import NoReturn

from gateway.engine import InvalidRequest

_LONGEST = 10_000
_DEEPEST = 50
_MOST_TIMES = 1_000
_LAST = 0x10FFFF
_TIMES = re.compile(r"\{(\d{1,9})(?:(,)(\d{1,9})?)?\}")
_GROUP = re.compile(r"\(\?(?::|P?<[A-Za-z_]\w*>)")
_CODE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|[xu]\{([0-9a-fA-F]{1,6})\})")
_CONTROLS = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11}
_ASCII = {"d": "0-9", "w": "0-9A-Z_a-z", "s": r"\x09-\x0d\x20"}
# All that is white space to Unicode, or to Python.
_BLANKS = r"\x09-\x0d\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_SYNTAX = frozenset(r"\^$.|?*+()[{")
_SETS = ("&&", "--", "~~")  # what Rust makes of two classes


def to_rule(pattern: str) -> str:
    """Return the right side of a rule for all texts that match the whole pattern; raise `InvalidRequest`."""
    if len(pattern) > _LONGEST:
        raise InvalidRequest(f"a regex has at most {_LONGEST} characters", param="regex")
    return _PatternReader(pattern).read()


class _PatternReader:
    """Reads a pattern from left to right; `_at` is the place in it."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._depth = 0

    def read(self) -> str:
        rule = self._alternatives()
        if self._at < len(self._pattern):
            self._refuse("a ) closes nothing")
        return rule

    def _alternatives(self) -> str:
        found = [self._sequence()]
        while self._take("|"):
            found.append(self._sequence())
        return " | ".join(found)

    def _sequence(self) -> str:
        found: list[str] = []
        # The answer is the whole match, so at its two ends these say nothing.
        while self._depth == 0 and (self._take("^") or self._take(r"\A")):
            pass
        while self._at < len(self._pattern) and self._next not in "|)":
            if self._depth == 0 and self._ends():
                break
            found.append(self._atom() + self._times())
        return " ".join(found) or '""'

    def _ends(self) -> bool:
        """Take the marks of the end where the end is."""
        for mark in ("$", r"\z", r"\Z"):
            behind = self._at + len(mark)
            if self._pattern.startswith(mark, self._at) and self._pattern[behind : behind + 1] in ("", "|"):
                self._at = behind
                return True
        return False

    def _atom(self) -> str:
        if self._next == "(":
            return self._group()
        if self._next == "[":
            return self._class()
        if self._take("."):
            return r"[^\x0a]"
        if self._next == "\\" and self._pattern[self._at + 1 : self._at + 2] in ("d", "w", "s", "S"):
            kind = self._pattern[self._at + 1]
            self._at += 2
            return f"[^{_BLANKS}]" if kind == "S" else f"[{_ASCII[kind]}]"
        return f'"{_coded(self._character(_SYNTAX))}"'

    def _group(self) -> str:
        opened = _GROUP.match(self._pattern, self._at)
        if opened is None and self._pattern.startswith("(?", self._at):
            self._refuse("a grammar has no form for a group that begins so")
        self._at = opened.end() if opened else self._at + 1
        self._depth += 1
        if self._depth > _DEEPEST:
            self._refuse("it is nested too deep")
        inner = self._alternatives()
        if not self._take(")"):
            self._refuse("a ( is not closed")
        self._depth -= 1
        return f"({inner})"

    def _class(self) -> str:
        self._at += 1
        is_other = self._take("^")
        found: list[str] = []
        if self._next == "]":
            self._refuse("a class is empty")
        while not self._take("]"):
            if not self._next:
                self._refuse("a [ is not closed")
            if self._pattern.startswith(_SETS, self._at):
                self._refuse("a grammar has no form for classes of classes")
            found.append(self._member(is_other=is_other))
        return f"[{'^' if is_other else ''}{''.join(found)}]"

    def _member(self, *, is_other: bool) -> str:
        r"""Return a character of a class, a range, or what `\d` and its like stand for."""
        kind = self._pattern[self._at + 1 : self._at + 2] if self._next == "\\" else ""
        if kind == "s" or (kind in ("d", "w") and not is_other):
            self._at += 2
            return _BLANKS if is_other else _ASCII[kind]
        first = self._character(frozenset("["))
        if self._next != "-" or self._pattern[self._at + 1 : self._at + 2] in ("]", ""):
            return _coded(first)
        self._at += 1
        last = self._character(frozenset("["))
        if last < first:
            self._refuse("a range ends before it begins")
        return f"{_coded(first)}-{_coded(last)}"

    def _character(self, syntax: frozenset[str]) -> int:
        """Take one character, written as it is or by a backslash; return its number."""
        if self._next != "\\":
            if not self._next or self._next in syntax:
                self._refuse("this character means something else here: put a backslash before it")
            self._at += 1
            return self._checked(ord(self._pattern[self._at - 1]))
        if code := _CODE.match(self._pattern, self._at):
            self._at = code.end()
            return self._checked(int(next(filter(None, code.groups())), 16))
        letter = self._pattern[self._at + 1 : self._at + 2]
        if letter not in _CONTROLS and (not letter or letter.isalnum()):
            self._refuse("a grammar has no form for this")
        self._at += 2
        return _CONTROLS.get(letter, ord(letter))

    def _times(self) -> str:
        """Take how often an atom comes; a `?` behind that asks for the shortest match changes nothing of the whole."""
        times = self._next
        if found := _TIMES.match(self._pattern, self._at):
            self._at = found.end()
            least, opened = int(found[1]), bool(found[2]) and not found[3]
            most = _MOST_TIMES if opened else int(found[3] or found[1])
            if max(least, most) > _MOST_TIMES:
                self._refuse(f"it repeats more than {_MOST_TIMES} times")
            if most < max(least, 1):
                self._refuse("it never comes, or less often than it must")
            times = f"{{{least},}}" if opened else f"{{{least},{most}}}"
        elif times and times in "*+?":
            self._at += 1
        else:
            return ""
        self._take("?")
        if self._next and self._next in "*+?":
            self._refuse("a grammar has no form for this repetition")
        return times

    @property
    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self, text: str) -> bool:
        if not self._pattern.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _checked(self, number: int) -> int:
        if number > _LAST or 0xD800 <= number <= 0xDFFF:  # noqa: PLR2004 - halves of characters, which stand for none
            self._refuse("there is no such character")
        return number

    def _refuse(self, why: str) -> NoReturn:
        raise InvalidRequest(f"the regex cannot be a grammar of llama-server: at {self._at}, {why}", param="regex")


def _coded(number: int) -> str:
    character = chr(number)
    return character if character.isascii() and character.isalnum() else f"\\U{number:08x}"
