"""Find out at load what a model's chat template does with a conversation, by rendering plain ones."""

import logging
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Any, NamedTuple

from jinja2 import TemplateSyntaxError
from transformers import PreTrainedTokenizerBase

from gateway.engine import InvalidRequest
from gateway_hf.text.template import TemplateContent, TemplateFailed, TemplateMessage, render

_log = logging.getLogger("gateway_hf")

# The roles, and conversations in which a template writes their messages, if it ever does.
_CONVERSATIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "user": (("user",), ("system", "user"), ("user", "assistant", "user")),
    "system": (("system", "user"), ("system", "user", "assistant", "user")),
    "assistant": (("user", "assistant", "user"), ("system", "user", "assistant", "user")),
}
_NONE: Mapping[str, Any] = MappingProxyType({})
# So many words are more than a short slice of a text.
_WORDS = 200


class TemplateFacts(NamedTuple):
    """What a template does with plain messages: whose it reads in content parts, and whether it writes them unchanged.

    `reads_system` says whether it takes a message of the system's, `is_sound` whether it wrote a plain question; where
    it did, a conversation that it fails at is to blame.
    """

    parts: frozenset[str] = frozenset()
    keeps_text: bool = True
    is_sound: bool = True
    reads_system: bool = True


def try_out(
    tokenizer: PreTrainedTokenizerBase,
    arguments: AbstractSet[str] = frozenset(),
    given: Mapping[str, Any] = _NONE,
    lack: str = "the model has no chat",
) -> TemplateFacts | None:
    """Find out what a template does; `None`, with a line in the log that ends with the `lack`, for one of no use.

    `arguments` are the variables that a request may set: a template that fails without them may do with them. Others
    are `given`.
    """
    probing = _Probing(tokenizer, given, lack)
    try:
        asked = probing.read("user", frozenset())
    except TemplateFailed as error:
        _log.error("the chat template is wrong%s: %s; %s", error.place, error.cause, lack)
        return None
    if asked is None:
        return probing.judge(arguments)
    parts, keeps_text = (frozenset(_CONVERSATIONS) if asked.in_parts else frozenset[str]()), asked.is_kept
    reads_system = True
    for role in ("system", "assistant"):
        # A role that a template refuses or leaves out is given as the user's is.
        if (read := probing.read(role, parts)) is not None:
            parts = parts | {role} if read.in_parts else parts - {role}
            keeps_text = keeps_text and read.is_kept
        elif role == "system":
            reads_system = False
    return TemplateFacts(parts, keeps_text, reads_system=reads_system)


def to_content(text: str, *, in_parts: bool) -> TemplateContent:
    """Write the content of a message as a template reads it."""
    return [{"type": "text", "text": text}] if in_parts else text


class _Read(NamedTuple):
    """How a template reads the messages of a role, and whether it writes them as they stand."""

    in_parts: bool
    is_kept: bool


class _Probing:
    """Renders conversations of plain messages, and remembers what came of them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, given: Mapping[str, Any], lack: str) -> None:
        self._tokenizer = tokenizer
        self._given = given
        self._lack = lack
        self._written = self._refused = self._endless = False
        self._failed: TemplateFailed | None = None

    def read(self, role: str, parts: frozenset[str]) -> _Read | None:
        """Find out how the messages of a role are read, beside others in `parts` or not; `None` where they are not."""
        trace = re.compile(rf"{role}\d", re.IGNORECASE)
        for in_parts in (False, True):  # parts that are written like a text would show, too
            # While nothing is known of them, the other roles are given as the user's is.
            others = parts if role != "user" else frozenset(_CONVERSATIONS) if in_parts else frozenset[str]()
            given = others | {role} if in_parts else others - {role}
            for roles in _CONVERSATIONS[role]:
                written = self._write(roles, given)
                if written is not None and trace.search(written):
                    return _Read(in_parts, _words(role) in written)
        return None

    def judge(self, arguments: AbstractSet[str]) -> TemplateFacts | None:
        """Say what to make of a template that wrote no question."""
        if self._written:
            _log.error("the chat template leaves out what a user says, as text and in parts; %s", self._lack)
            return None
        if self._failed is None:
            return TemplateFacts()  # it refuses these conversations, which says nothing of others
        if not self._failed.is_excessive and (self._refused or arguments):
            return TemplateFacts(is_sound=False)
        place, cause = self._failed.place, str(self._failed.cause) or self._failed.message
        _log.error("the chat template fails at plain questions%s: %s; %s", place, cause, self._lack)
        return None

    def _write(self, roles: tuple[str, ...], parts: frozenset[str]) -> str | None:
        """Render a conversation; `None` where it is refused or fails, an exception where no template is read."""
        if self._endless:
            return None
        messages: list[TemplateMessage] = [
            {"role": role, "content": to_content(_words(role), in_parts=role in parts)} for role in roles
        ]
        try:
            written = render(self._tokenizer, messages, self._given)
        except InvalidRequest:
            self._refused = True
            return None
        except TemplateFailed as error:
            if isinstance(error.cause, TemplateSyntaxError):
                raise
            self._failed = self._failed or error
            self._endless = error.is_excessive
            return None
        self._written = True
        return written


def _words(role: str) -> str:
    return " ".join(f"{role.title()}{number}" for number in range(_WORDS))
