"""Prompts to token ids and token ids to text, as the model's own tokenizer has it."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from gateway.engine import (
    Chat,
    Completion,
    ContextTooLong,
    InvalidRequest,
    LoadFailed,
    Message,
    Prompt,
    Text,
    Tokens,
    Unsupported,
)
from gateway_hf.detokenize import Detokenizer
from gateway_hf.markers import Markers
from gateway_hf.template import render

# Few texts have more characters than this to a token: a longer one is measured piece by piece before it is read whole.
_USUAL_CHARACTERS = 8
# The two words at the ends of a piece may have a few more tokens cut than whole.
_SLACK = 16


class TextCodec:
    """The text side of one model; safe to use from any thread."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, vocabulary: int, context_window: int) -> None:
        self._tokenizer = tokenizer
        self._backend = backend(tokenizer)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._vocabulary = vocabulary
        self._context_window = context_window
        template = _template(tokenizer)
        self._markers = None if template is None else Markers(self._backend, template)

    @property
    def has_chat(self) -> bool:
        """Whether the model has a chat template."""
        return self._markers is not None

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the prompt's ids; raise `InvalidRequest` for one that the model cannot read."""
        match prompt:
            case Completion(text):
                self._measure(text)
                ids = self._backend.encode(text).ids
            case Chat(messages):
                ids = self._encode_chat(messages)
            case Tokens(tokens):
                ids = self._checked(tokens)
        if not ids:
            raise InvalidRequest("the prompt has no tokens", param="prompt")
        return ids

    def detokenizer(self, prompt_ids: Sequence[int] = ()) -> Detokenizer:
        """Make what turns one answer's tokens into text."""
        return Detokenizer(self._backend, prompt_ids)

    def token_text(self, token: int) -> str:
        """Say a token by itself; bytes that are no whole character are U+FFFD."""
        return self._backend.decode([token], skip_special_tokens=False)

    def _encode_chat(self, messages: Sequence[Message]) -> list[int]:
        if self._markers is None:
            raise Unsupported("the model has no chat template; send a prompt in place of messages", param="messages")
        hidden: list[str] = []
        turns = [
            {"role": turn.role, "content": self._markers.hide(turn.role, _said(turn), hidden)} for turn in messages
        ]
        rendered = render(self._tokenizer, turns)
        self._measure(rendered)
        return self._markers.encode(rendered, hidden)

    def _checked(self, tokens: Sequence[int]) -> list[int]:
        for token in tokens:
            if not 0 <= token < self._vocabulary:
                raise InvalidRequest(f"token id {token} is not below {self._vocabulary}", param="prompt")
        return list(tokens)

    def _measure(self, text: str) -> None:
        """Raise `ContextTooLong` as soon as the beginning of a long text has too many tokens."""
        stride = self._context_window * _USUAL_CHARACTERS
        if len(text) <= stride:
            return
        tokens = 0
        for begin in range(0, len(text), stride):
            tokens += len(self._backend.encode(text[begin : begin + stride], add_special_tokens=False).ids) - _SLACK
            if tokens > self._context_window:
                raise ContextTooLong(
                    f"the prompt has {len(text)} characters: more than the {self._context_window} tokens that fit",
                    param="prompt",
                )


def backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Return the tokenizer proper; raise `LoadFailed` for one that is written in Python."""
    found = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(found, Tokenizer):
        raise LoadFailed("the model's tokenizer has no tokenizer.json and cannot be turned into one")
    return found


def _template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the source of the chat template; of several, the default one."""
    if not tokenizer.chat_template:
        return None
    try:
        return tokenizer.get_chat_template()
    except ValueError:
        return None


def _said(turn: Message) -> str:
    if not all(isinstance(part, Text) for part in turn.parts):
        raise Unsupported("the model reads text only: no images, tool calls or tool results", param="messages")
    return turn.text
