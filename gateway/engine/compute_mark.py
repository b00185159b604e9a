"""Which calls an engine computes at the moment, and which only wait in it: an engine that hangs did so at the former.

An engine gets the mark of the call that it answers, on the event loop, and enters it around each piece of work that may
take long, on whatever thread that runs. The host reads the marks when nothing has moved for long.
"""

from contextvars import ContextVar
from typing import ClassVar, Self


class ComputeMark:
    """The mark of one call: it is computed while this is entered."""

    are_kept: ClassVar[bool] = False

    def __init__(self) -> None:
        self.is_computed = False

    def __enter__(self) -> Self:
        self.is_computed = True
        return self

    def __exit__(self, *_: object) -> None:
        self.is_computed = False


_mark: ContextVar[ComputeMark] = ContextVar("compute_mark")


def begin_call() -> ComputeMark:
    """Make the mark of the call that the current task answers; for the host of an engine."""
    mark = ComputeMark()
    _mark.set(mark)
    return mark


def compute_mark() -> ComputeMark:
    """Return the mark of the call that the current task answers; outside of any host, one that none reads."""
    ComputeMark.are_kept = True
    return _mark.get(None) or ComputeMark()
