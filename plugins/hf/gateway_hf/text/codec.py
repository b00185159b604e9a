"""Prompts to token ids and token ids to text, as the model's own tokenizer has it."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from gateway.engine import (
    Chat,
    Completion,
    ContextTooLong,
    EngineError,
    InvalidRequest,
    LoadFailed,
    Prompt,
    Tokens,
    TokenSpelling,
    Unsupported,
)
from gateway_hf.constrain.vocabulary import Vocabulary, read_vocabulary
from gateway_hf.text.byte_tokens import byte_speller, longest_token
from gateway_hf.text.conversation import ConversationWriter, hide_deep
from gateway_hf.text.description import describe
from gateway_hf.text.detokenizer import Detokenizer
from gateway_hf.text.ids import ids_of
from gateway_hf.text.markers import Markers
from gateway_hf.text.named_templates import ChatTemplate, ChatTemplates, read_templates, source_of
from gateway_hf.text.template import End, TemplateFailed, TemplateMessage, render
from gateway_hf.tools.parser import marks_of
from gateway_hf.tools.thoughts import EFFORT, SWITCHES, recognise_thoughts

# Few texts have more characters than this to a token: a longer one is measured piece by piece before it is read whole.
_USUAL_CHARACTERS = 8
# The two words at the ends of a piece may have a few more tokens cut than whole.
_SLACK = 16
# Of a prompt that is to be cut, and of tokens to be shown, so many contexts are read at most.
_WINDOWS = 16
Side = Literal["left", "right"]
_NAMED = "template_arguments"

_log = logging.getLogger("gateway_hf")


class TextCodec:
    """The text side of one model; safe to use from any thread."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, vocabulary: int, context_window: int) -> None:
        self._tokenizer = tokenizer
        self._backend = backend(tokenizer)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._bytes_of = byte_speller(self._backend)
        self._vocabulary = vocabulary
        self._context_window = context_window
        self._longest = longest_token(self._backend)
        added = self._backend.get_added_tokens_decoder()
        self.special_ids = {token.content: number for number, token in added.items() if token.special}
        self._special = frozenset(self.special_ids.values())
        self._added_bytes = {number: token.content.encode() for number, token in added.items()}
        if beyond := [token.content for number, token in added.items() if number >= vocabulary]:
            _log.warning("the model has no embeddings for these tokens of its tokenizer: %s", ", ".join(beyond[:10]))
        templates = read_templates(tokenizer)
        self._templates = templates or ChatTemplates()
        plain, with_tools, self.tools = self._templates
        self._markers = None if templates is None else Markers(self._backend, f"{plain.source}{with_tools.source}")
        self.switches = tuple(name for name in SWITCHES if name in plain.variables)
        self.has_effort = EFFORT in plain.variables
        self.thoughts = recognise_thoughts(plain.source)
        marks = " ".join(marks_of(self.tools.form, self.thoughts))
        self._marks = frozenset(number for number, token in added.items() if token.content in marks)

    @property
    def has_chat(self) -> bool:
        """Whether the model has a chat template that can be used."""
        return self._markers is not None

    def describe(self) -> dict[str, Any]:
        """Return the tokenizer's configuration, in JSON's types."""
        return describe(self._tokenizer, source_of(self._tokenizer))

    def encode(self, prompt: Prompt, truncate: int | None = None, side: Side = "left") -> list[int]:
        """Return the prompt's ids; raise `InvalidRequest` for one that the model cannot read.

        Where `truncate` is a number only so many are read: the last, or where the right `side` is cut the first.
        """
        ids = self.tokenize(prompt, windows=1 if truncate is None else _WINDOWS)
        if not ids:
            raise InvalidRequest("the prompt has no tokens", param="prompt")
        if truncate is None:
            return ids
        return ids[-truncate:] if side == "left" else ids[:truncate]

    def tokenize(self, prompt: Prompt, windows: int = 1) -> list[int]:
        """Return all of the prompt's ids; raise `ContextTooLong` where a text is far longer than so many contexts."""
        match prompt:
            case Completion(text, add_special):
                with self._reading("prompt"):
                    self._measure(text, windows)
                    ids = ids_of(self._backend, text, add_special=add_special)
                return self._within(ids, "prompt")
            case Chat():
                markers, rendered, hidden = self._render(prompt)
                with self._reading("messages"):
                    self._measure(rendered, windows)
                    ids = markers.encode(rendered, hidden)
                return self._within(ids, "messages")
            case Tokens(tokens):
                return self._checked(tokens)

    def render(self, chat: Chat) -> str:
        """Return the conversation as the template writes it."""
        markers, rendered, hidden = self._render(chat)
        return markers.show(rendered, hidden)

    def detokenize(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Return the piece of text that each token completes."""
        stream = Detokenizer(self._backend)
        pieces = [stream.feed(token) for token in self._shown(ids)]
        return (*pieces[:-1], pieces[-1] + stream.flush()) if pieces else ()

    def spell(self, ids: Sequence[int]) -> tuple[TokenSpelling, ...]:
        """Return the vocabulary's own string for each token, and the bytes that it stands for."""
        tokens = self._shown(ids)
        spelled = [self._backend.id_to_token(token) or "" for token in tokens]
        data = [self._added_bytes.get(token) or self.token_bytes(token) for token in tokens]
        # Where a vocabulary spells no bytes, a token stands for what it adds to the text.
        pieces = self.detokenize(tokens) if None in data else [""] * len(tokens)
        parts = zip(spelled, data, pieces, strict=True)
        return tuple(TokenSpelling(text, piece.encode() if raw is None else raw) for text, raw, piece in parts)

    def detokenizer(self, prompt_ids: Sequence[int] = (), *, marked: bool = False) -> Detokenizer:
        """Make what turns one answer's tokens into text; a special one has none, unless it marks calls or thoughts."""
        return Detokenizer(self._backend, prompt_ids, self._special - self._marks if marked else self._special)

    def vocabulary(self, eos_ids: Collection[int]) -> Vocabulary:
        """Return the tokens to constrain answers with; raise `UnconstrainableError` where that cannot be."""
        return read_vocabulary(self._backend, self._vocabulary, eos_ids)

    def spell_mark(self, mark: str) -> tuple[int, ...]:
        """Return the tokens that write a mark of the template."""
        return tuple(ids_of(self._backend, mark, add_special=False))

    def token_bytes(self, token: int) -> bytes | None:
        """Return the bytes that a token stands for, or None where its vocabulary does not spell bytes."""
        spelled = self._backend.id_to_token(token)
        return None if spelled is None else self._bytes_of(spelled)

    def _render(self, chat: Chat) -> tuple[Markers, str, list[str]]:
        """Put a conversation through its template, with what reads like a marker hidden."""
        markers = self._markers
        if markers is None:
            raise Unsupported("the model has no chat template; send a prompt in place of messages", param="messages")
        if chat.continue_final and chat.messages[-1].role != "assistant":
            raise InvalidRequest("only an assistant's message can be continued", param="messages")
        hidden: list[str] = []
        template = self._templates.chosen(chat)
        writer = ConversationWriter(template.facts, self.tools, lambda role, text: markers.hide(role, text, hidden))
        turns = writer.messages(chat)
        arguments = self._arguments(chat, template, lambda text: markers.hide("user", text, hidden))
        arguments |= writer.arguments(chat)
        rendered = self._rendered(chat, template, turns, arguments)
        if hidden and not (template.facts.keeps_text and markers.are_whole(rendered)):
            raise InvalidRequest(
                f"the messages hold the marker {hidden[0]!r}, and the model's chat template changes texts",
                param="messages",
            )
        return markers, rendered, hidden

    def _rendered(self, chat: Chat, template: ChatTemplate, turns: list[TemplateMessage], given: dict[str, Any]) -> str:
        """Run the template; a conversation is to blame where a plain question goes through."""
        try:
            return render(self._tokenizer, turns, given, end=_end(chat))
        except TemplateFailed as error:
            _log.warning("the chat template failed%s: %s", error.place, error.kind)
            if template.facts.is_sound:
                param = _NAMED if chat.template_arguments else "messages"
                raise InvalidRequest(f"{error.message}; the log says where", param=param) from error
            raise EngineError(error.message) from error

    def _arguments(self, chat: Chat, template: ChatTemplate, hide: Callable[[str], str]) -> dict[str, Any]:
        """Return the further variables of the template; raise `Unsupported` where it has none of that name."""
        wanted = dict.fromkeys(SWITCHES, chat.reasoning) | {EFFORT: chat.reasoning_effort}
        asked = {name: value for name, value in wanted.items() if value is not None and name in template.variables}
        if chat.reasoning_effort is not None and self.thoughts and not self.has_effort:
            raise Unsupported("the model's chat template cannot be told how hard to think", param=EFFORT)
        for name in chat.template_arguments:
            if name not in template.variables:
                known = ", ".join(sorted(template.variables)) or "none that may be set"
                raise Unsupported(f"the model's chat template has no variable {name!r}; there is {known}", param=_NAMED)
        return asked | {name: hide_deep(hide, value) for name, value in chat.template_arguments.items()}

    @contextmanager
    def _reading(self, param: str) -> Iterator[None]:
        """Raise `InvalidRequest` for a text that the tokenizer fails at, as one without an unknown token may."""
        try:
            yield
        except EngineError:
            raise
        except Exception as error:  # the tokenizer's errors have no type of their own
            why = " ".join(str(error).split())[:200]
            raise InvalidRequest(f"the model's tokenizer cannot read this text: {why}", param=param) from error

    def _within(self, ids: list[int], param: str) -> list[int]:
        """Return the ids; raise `InvalidRequest` for a token that the tokenizer has and the model has not."""
        if ids and (highest := max(ids)) >= self._vocabulary:
            token = self._backend.id_to_token(highest)
            raise InvalidRequest(f"the text holds {token!r}: the tokenizer knows it, the model does not", param=param)
        return ids

    def _checked(self, tokens: Sequence[int], param: str = "prompt") -> list[int]:
        for token in tokens:
            if not 0 <= token < self._vocabulary:
                raise InvalidRequest(f"token id {token} is not below {self._vocabulary}", param=param)
        return list(tokens)

    def _shown(self, ids: Sequence[int]) -> list[int]:
        """Return the ids of a text to show; raise `InvalidRequest` where they are no tokens, or more than are shown."""
        if len(ids) > (most := _WINDOWS * self._context_window):
            raise InvalidRequest(f"there are {len(ids)} tokens; at most {most} are shown at once", param="tokens")
        return self._checked(ids, param="tokens")

    def _measure(self, text: str, windows: int) -> None:
        """Raise `ContextTooLong` for a text of too many bytes, or as soon as its beginning has too many tokens."""
        most = self._context_window * windows
        stride = self._context_window * _USUAL_CHARACTERS
        if len(text) <= stride:
            return
        size, largest = len(text.encode()), self._context_window * self._longest
        if size > largest:
            raise ContextTooLong(
                f"the prompt has {size} bytes; at most {largest} are read: {self._longest}, the longest token's, "
                f"for each of the {self._context_window} tokens of the context",
                param="prompt",
            )
        tokens = 0
        for begin in range(0, len(text), stride):
            tokens += len(ids_of(self._backend, text[begin : begin + stride], add_special=False)) - _SLACK
            if tokens > most:
                raise ContextTooLong(
                    f"the prompt has {len(text)} characters: more than the {most} tokens that fit",
                    param="prompt",
                )


def backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Return the tokenizer proper; raise `LoadFailed` for one that is written in Python."""
    found = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(found, Tokenizer):
        raise LoadFailed("the model's tokenizer has no tokenizer.json and cannot be turned into one")
    return found


def _end(chat: Chat) -> End:
    if chat.continue_final:
        return "open"
    return "prompt" if chat.generation_prompt else "closed"
