"""The script of an engine: its answer, and the faults to inject."""

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, structs

from gateway.engine import Chat, Delta, EngineError, Prompt, ToolDelta

EXIT_STATUS = 70

ScriptSeconds = Annotated[float, Meta(ge=0)]


class Fault(StrEnum):
    """A fault in the middle of an answer."""

    RAISE = "raise"  # the EngineError that `code` names
    BUG = "bug"  # an error that no engine may raise
    PANIC = "panic"  # one that is no `Exception`, as the panic of a library in Rust
    QUIT = "quit"  # `SystemExit`
    INTERRUPT = "interrupt"  # `KeyboardInterrupt`
    HANG = "hang"  # nothing more comes until the reader leaves
    DEAF = "deaf"  # goes on for `seconds`, though it is cancelled
    BLOCK = "block"  # holds the whole thread for `seconds`
    CUT = "cut"  # the stream ends without `Finished`
    EXIT = "exit"  # the process is gone, without clean-up


class ScriptedCall(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call of a tool: its first token is the name, and each piece of the arguments another."""

    name: str
    id: str = "call-1"
    arguments: tuple[str, ...] = ("{}",)


class Script(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer: each of `texts` is a token that takes `delay` seconds; an empty one completes no text.

    Before them come `thoughts`, a token each, and behind them `calls`, as far as the request lets it think and call.

    `fault` strikes after that many deltas (`after`), or before `Started` where `after` is -1. Without
    `knows_prompt` the length of the prompt is told at the end only, as by an engine with a server behind it.
    """

    texts: tuple[str, ...] = ("Once ", "upon ", "a ", "time.")
    thoughts: tuple[str, ...] = ()
    calls: tuple[ScriptedCall, ...] = ()
    prefill: ScriptSeconds = 0.0
    delay: ScriptSeconds = 0.0
    logprob: float | Literal["nan", "-inf"] = -0.5
    fault: Fault | None = None
    after: Annotated[int, Meta(ge=-1)] = 0
    code: str = EngineError.code
    message: str = "the script says so"
    seconds: ScriptSeconds = 5.0
    knows_prompt: bool = True

    def __post_init__(self) -> None:
        if self.code not in _ERRORS:
            raise ValueError(f"no EngineError has the code {self.code!r}")

    def asked(self, prompt: Prompt) -> "Script":
        """Return what a request lets it play: its thoughts within their budget, and the calls that may be made.

        Raises `EngineError` where a call has to be made, and the script has none such.
        """
        if not isinstance(prompt, Chat):
            return self
        thoughts = () if prompt.reasoning is False else self.thoughts[: prompt.reasoning_budget]
        # No tool is called `none`, so of those calls none is left.
        names = prompt.allowed_tools if prompt.tool_choice in ("auto", "required") else (prompt.tool_choice,)
        calls = tuple(call for call in self.calls if not names or call.name in names)
        if not calls and prompt.tool_choice not in ("auto", "none"):
            raise EngineError("the script makes no such call, and one has to be made")
        return structs.replace(self, thoughts=thoughts, calls=calls if prompt.parallel_tool_calls else calls[:1])

    def speech(self, *, without_end: bool) -> Iterator[str | Delta | ToolDelta]:
        """Yield a text or an event for each token; without its end the texts again and again."""
        for thought in self.thoughts:
            yield Delta("", reasoning=thought)
        yield from itertools.cycle(self.texts) if without_end else self.texts
        for index, call in enumerate(self.calls):
            yield ToolDelta(index, id=call.id, name=call.name, tokens=1)
            for piece in call.arguments:
                yield ToolDelta(index, piece, tokens=1)


class Cut(Exception):
    """The script ends the stream here."""


class Panic(BaseException):
    """Stands for the panic of a library."""


class _Envelope(Struct, forbid_unknown_fields=True):
    script: Script


def find_script(text: str) -> Script | None:
    """Read the script that a prompt brings along, the JSON text `{"script": {…}}`, or None where it brings none."""
    try:
        return msgspec.json.decode(text, type=_Envelope).script
    except msgspec.DecodeError:
        return None


async def strike(script: Script, told: int) -> None:
    """Let the fault happen when `told` deltas are told and its moment has come."""
    if script.after != told:
        return
    match script.fault:
        case Fault.RAISE:
            raise _ERRORS[script.code](script.message)
        case Fault.HANG:
            await asyncio.Event().wait()
        case Fault.DEAF:
            await _ignore_cancellation(script.seconds)
        case Fault.BLOCK:
            time.sleep(script.seconds)  # noqa: ASYNC251 - to block the loop is this fault
        case Fault.EXIT:
            os._exit(EXIT_STATUS)
        case fault if fault in _RAISED:
            raise _RAISED[fault](script.message)


async def _ignore_cancellation(seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(left)


def _kinds(kind: type[EngineError]) -> Iterator[type[EngineError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)


_RAISED: dict[Fault | None, type[BaseException]] = {
    Fault.BUG: RuntimeError,
    Fault.PANIC: Panic,
    Fault.QUIT: SystemExit,
    Fault.INTERRUPT: KeyboardInterrupt,
    Fault.CUT: Cut,
}
# Not those that others derive, which have the code of their ancestor.
_ERRORS = {kind.code: kind for kind in _kinds(EngineError) if "code" in vars(kind)}
