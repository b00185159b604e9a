"""Render a conversation through a model's own chat template, which is foreign code: in a sandbox and with bounds."""

import ctypes
import inspect
import re
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Literal

from jinja2 import TemplateError, TemplateSyntaxError, meta
from transformers import PreTrainedTokenizerBase

from gateway.engine import EngineError, InvalidRequest
from gateway_hf.text.sandbox import BeyondBoundsError, BoundedEnvironment, bounds

SECONDS = 2.0
_LEAST_SECONDS = 0.01
# What a template may write beyond twice the conversation and its arguments.
_MARGIN = 1 << 20
_NONE: Mapping[str, Any] = MappingProxyType({})
# A tag that transformers adds to the language.
_GENERATION = re.compile(r"{%-?\s*(end)?generation\s*-?%}")
# What every message has.
_PLAIN = ("role", "content")
# What transformers sets itself, beside what Jinja does.
_SET = frozenset(inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters) | {
    "messages",
    "raise_exception",
    "strftime_now",
}


TemplateContent = str | list[dict[str, str]]
TemplateMessage = dict[str, Any]

# How a rendered conversation ends: with the beginning of an answer's turn, inside the last message, or behind it.
End = Literal["prompt", "open", "closed"]


class TemplateFailed(EngineError):
    """The template raised an error that is not its own refusal; `cause` may quote the conversation, as no log does."""

    def __init__(self, cause: BaseException, message: str = "failed") -> None:
        super().__init__(f"the model's chat template {message}")
        self.cause = cause

    @property
    def is_excessive(self) -> bool:
        """Whether it took more time, or computed more, than any conversation needs."""
        return isinstance(self.cause, OutOfTime | BeyondBoundsError)

    @property
    def place(self) -> str:
        """The line of the template, to put behind a verb."""
        frames = traceback.extract_tb(self.cause.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename.startswith("<")]
        line = self.cause.lineno if isinstance(self.cause, TemplateSyntaxError) else lines[-1] if lines else None
        return "" if line is None else f" in line {line}"

    @property
    def kind(self) -> str:
        """The kind of the error, all that a log may say: a message quotes texts, also as the template changed them."""
        return type(self.cause).__name__


class OutOfTime(BaseException):
    """The time ran out; no `except Exception` of foreign code may stop it."""


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[TemplateMessage],
    arguments: Mapping[str, Any] = _NONE,
    *,
    end: End = "prompt",
    seconds: float = SECONDS,
) -> str:
    """Return the conversation as the model reads it: up to where the answer begins or goes on, or to its end."""
    given = sum(len(_text(message)) for message in messages) + (len(str(arguments)) if arguments else 0)
    room = _MARGIN + 2 * given
    try:
        with bounds(room), time_limit(seconds):
            text = tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=end == "prompt",
                continue_final_message=end == "open",
                **arguments,
            )
    except OutOfTime as error:
        raise TemplateFailed(error, f"did not end within {seconds:g} seconds of processor time") from error
    except Exception as error:
        if type(error) is TemplateError:  # what a template raises itself, to refuse a conversation
            raise InvalidRequest(f"the model's chat template says: {_line(error)}", param="messages") from error
        raise TemplateFailed(error) from error
    if not isinstance(text, str) or len(text) > room:
        raise TemplateFailed(BeyondBoundsError("a text of too many characters"), "wrote far more than the conversation")
    return text


def variables(template: str, known: Iterable[str]) -> frozenset[str]:
    """Name the variables of a template that a request may set: none that is set anyway, as the `known` ones are."""
    # Parsed and never run, but Jinja computes what is constant on the way, a power of ten to the power of millions too.
    language = BoundedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        with bounds(_MARGIN):
            found = meta.find_undeclared_variables(language.parse(_GENERATION.sub("", template)))
    except TemplateSyntaxError:
        return frozenset()
    return frozenset(found) - _SET - language.globals.keys() - set(known)


def _text(message: TemplateMessage) -> str:
    """Return a message's texts: its content, and where it has more than that, all of it."""
    content: TemplateContent = message["content"]
    said = content if isinstance(content, str) else " ".join(part["text"] for part in content)
    return said if len(message) == len(_PLAIN) else said + str(message)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in this thread after `seconds` of its processor time, so that no busy machine counts.

    It strikes between two bytecodes, so not inside C code.
    """
    thread = ctypes.c_ulong(threading.get_ident())
    clock = time.pthread_getcpuclockid(threading.get_ident())
    end = time.clock_gettime(clock) + seconds
    lock = threading.Lock()
    over = struck = delivered = False
    timers: list[threading.Timer] = []

    def strike() -> None:
        nonlocal struck
        with lock:
            if over:
                return
            if (left := end - time.clock_gettime(clock)) > 0:
                begin(left)
            else:
                struck = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(OutOfTime))

    def begin(left: float) -> None:
        timer = threading.Timer(max(left, _LEAST_SECONDS), strike)
        timer.daemon = True
        timers[:] = [timer]
        timer.start()

    begin(seconds)
    try:
        yield
    except OutOfTime:
        delivered = True
        raise
    finally:
        with lock:
            over = True
            timers[0].cancel()
            # Where none is waiting, to take it back would leave all threads looking for one at each step, for good.
            if struck and not delivered:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)
