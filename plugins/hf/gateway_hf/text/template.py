"""Render a conversation through a model's own chat template, which is foreign code: in a sandbox and with bounds."""

import ctypes
import inspect
import logging
import re
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from jinja2 import Environment, TemplateError, TemplateSyntaxError, meta
from transformers import PreTrainedTokenizerBase

from gateway.engine import EngineError, InvalidRequest

SECONDS = 2.0
# What a template may write beyond twice the conversation itself.
_MARGIN = 1 << 20
_NONE: Mapping[str, Any] = MappingProxyType({})
# A tag that transformers adds to the language.
_GENERATION = re.compile(r"{%-?\s*(end)?generation\s*-?%}")
# What transformers sets itself, beside what Jinja does.
_SET = frozenset(inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters) | {
    "messages",
    "raise_exception",
    "strftime_now",
}


# A question that a template which keeps what it is given writes as it stands: no short slice holds it.
_PROBE = " ".join(f"Word{number}" for number in range(200))
# What of the probe shows that a template has read it, though it wrote it otherwise.
_TRACE = re.compile(r"word\d", re.IGNORECASE)

_log = logging.getLogger("gateway_hf")

TemplateContent = str | list[dict[str, str]]

# How a rendered conversation ends: with the beginning of an answer's turn, inside the last message, or behind it.
End = Literal["prompt", "open", "closed"]


class TemplateFacts(NamedTuple):
    """What a template does with a plain question: how it reads its text, and whether it writes it as it stands.

    `is_sound` says whether it rendered the question; where it did, a conversation that it fails at is to blame.
    """

    reads_parts: bool = False
    keeps_text: bool = True
    is_sound: bool = True


class OutOfTime(BaseException):
    """The time ran out; no `except Exception` of foreign code may stop it."""


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, TemplateContent]],
    arguments: Mapping[str, Any] = _NONE,
    *,
    end: End = "prompt",
    seconds: float = SECONDS,
) -> str:
    """Return the conversation as the model reads it: up to where the answer begins or goes on, or to its end."""
    room = _MARGIN + 2 * sum(map(_length, messages))
    try:
        with time_limit(seconds):
            text = tokenizer.apply_chat_template(
                messages,  # type: ignore[arg-type] # contents in parts are taken, though not declared
                tokenize=False,
                add_generation_prompt=end == "prompt",
                continue_final_message=end == "open",
                **arguments,
            )
    except OutOfTime as error:
        raise EngineError(f"the model's chat template did not end within {seconds:g} seconds") from error
    except Exception as error:
        if type(error) is TemplateError:  # what a template raises itself, to refuse a conversation
            raise InvalidRequest(f"the model's chat template says: {_line(error)}", param="messages") from error
        # Its message may quote the conversation, which no log holds.
        _log.warning("the model's chat template failed%s: %s", _place(error), type(error).__name__)
        raise EngineError("the model's chat template failed") from error
    if not isinstance(text, str) or len(text) > room:
        raise EngineError("the model's chat template wrote far more than the conversation")
    return text


def try_out(tokenizer: PreTrainedTokenizerBase) -> TemplateFacts | None:
    """Find out what a template does with a question; `None` where the model can have no conversation.

    Some templates read a message's text, others its content parts; of one that is no use there is a line in the log.
    """
    is_sound = False
    for reads_parts in (False, True):
        try:
            written = render(tokenizer, [{"role": "user", "content": to_content(_PROBE, as_parts=reads_parts)}])
        except InvalidRequest:
            return TemplateFacts()  # it refuses this conversation, which says nothing of others
        except EngineError as error:
            cause = error.__cause__
            if isinstance(cause, TemplateSyntaxError):
                _log.error("the chat template is wrong in line %d: %s; the model has no chat", cause.lineno, cause)
                return None
            _log.warning("a plain question is more than the chat template can take: %s", _line(cause or error))
            continue
        is_sound = True
        if _PROBE in written:
            return TemplateFacts(reads_parts=reads_parts)
        if _TRACE.search(written):
            return TemplateFacts(reads_parts=reads_parts, keeps_text=False)
    if not is_sound:
        return TemplateFacts(is_sound=False)
    _log.error("the chat template leaves out what a user says, as text and in parts; the model has no chat")
    return None


def to_content(text: str, *, as_parts: bool) -> TemplateContent:
    """Write the content of a message as a template reads it."""
    return [{"type": "text", "text": text}] if as_parts else text


def variables(template: str, known: Iterable[str]) -> frozenset[str]:
    """Name the variables of a template that a request may set: none that is set anyway, as the `known` ones are."""
    # Parsed and never run: nothing of the template can act here.
    language = Environment(autoescape=True, extensions=["jinja2.ext.loopcontrols"])
    try:
        found = meta.find_undeclared_variables(language.parse(_GENERATION.sub("", template)))
    except TemplateSyntaxError:
        return frozenset()
    return frozenset(found) - _SET - language.globals.keys() - set(known)


def _length(message: Mapping[str, TemplateContent]) -> int:
    content = message["content"]
    return len(content) if isinstance(content, str) else sum(len(part["text"]) for part in content)


def _place(error: Exception) -> str:
    """Name the line of the template that failed."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith("<")]
    line = error.lineno if isinstance(error, TemplateSyntaxError) else lines[-1] if lines else None
    return "" if line is None else f" in line {line}"


def _line(error: BaseException) -> str:
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
