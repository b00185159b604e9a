"""Render a conversation through a model's own chat template, which is foreign code: in a sandbox and with bounds."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from gateway.engine import EngineError, InvalidRequest

SECONDS = 2.0
# What a template may write beyond twice the conversation itself.
_MARGIN = 1 << 20


class OutOfTime(BaseException):
    """The time ran out; no `except Exception` of foreign code may stop it."""


def render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], seconds: float = SECONDS) -> str:
    """Return the conversation as the model reads it, up to where the answer begins."""
    room = _MARGIN + 2 * sum(len(message["content"]) for message in messages)
    try:
        with time_limit(seconds):
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except OutOfTime as error:
        raise EngineError(f"the model's chat template did not end within {seconds:g} seconds") from error
    except Exception as error:
        if type(error) is TemplateError:  # what a template raises itself, to refuse a conversation
            raise InvalidRequest(f"the model's chat template says: {_line(error)}", param="messages") from error
        raise EngineError("the model's chat template failed") from error
    if not isinstance(text, str) or len(text) > room:
        raise EngineError("the model's chat template wrote far more than the conversation")
    return text


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in this thread after `seconds`; it strikes between two bytecodes, so not inside C code."""
    thread = ctypes.c_ulong(threading.get_ident())
    lock = threading.Lock()
    over = False

    def strike() -> None:
        with lock:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(OutOfTime))

    timer = threading.Timer(seconds, strike)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            over = True
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)  # one that was set and not yet raised
