"""Make the tokens that the model reads: by the server's template and tokenizer."""

import re
import secrets
from collections.abc import Callable
from typing import Any

from msgspec import Struct, structs

from gateway.engine import Chat, Completion, EngineError, InvalidRequest, Message, Prompt, Text, Tokens
from gateway_llamacpp.client import LlamaClient
from gateway_llamacpp.conversations import has_form, to_words
from gateway_llamacpp.vocabulary import GgufVocabulary

# It stands in a text without being seen, and in no special token.
_JOINER = "\u2060"
_ABOUT_TOOLS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})
_NAMES = frozenset({"role", "type", "name", "id", "tool_call_id"})
_WORD = re.compile(r"[\w.-]*")
_ASKED = Chat((Message("user", (Text("hello"),)),))


class _Rendered(Struct, frozen=True):
    prompt: str


class _Tokenized(Struct, frozen=True):
    tokens: tuple[int, ...]


class PromptReader:
    """Turns prompts into ids. A special token is read in raw texts and in templates, and never in a message.

    A message that spells one is taken apart: where the ids are sent, by a mark that is gone from them; where the chat
    endpoint reads the message itself (`words`), by a joiner that is not seen.
    """

    def __init__(self, client: LlamaClient, vocabulary: GgufVocabulary) -> None:
        self._client = client
        self._vocabulary = vocabulary
        names = sorted(vocabulary.specials, key=len, reverse=True)
        # The first letter of each name is set apart from the others; a name of one letter is a text like any other.
        self._special = re.compile("|".join(re.escape(name) for name in map(_shown, names) if len(name) > 1) or r"(?!)")
        self.thinks = self.may_think = False

    async def try_thoughts(self) -> None:
        """Find out whether the template opens a thought, and whether it can be told not to."""
        asked = [to_words(structs.replace(_ASKED, reasoning=reasoning)) for reasoning in (False, True)]
        try:
            plain, thinking = [await self._ask(words) for words in asked]
        except InvalidRequest:  # a template that wants more than a message will say so of each request
            return
        self.may_think = plain != thinking
        self.thinks = self.may_think or thinking.rstrip().endswith("<think>")

    def has_form(self, chat: Chat) -> bool:
        """Tell whether the answer may have calls or thoughts, which only the chat endpoint tells apart."""
        return has_form(chat, thinks=self.thinks)

    def words(self, chat: Chat) -> dict[str, Any]:
        """Return a conversation for the chat endpoint."""
        return self._apart(to_words(chat), _JOINER)

    async def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Return the ids of a prompt; raise `InvalidRequest` for one that has none."""
        match prompt:
            case Tokens(ids):
                self._vocabulary.check(ids, "prompt")
            case Completion(text, add_special):
                ids = await self._tokenize(text, add_special=add_special)
            case Chat() if self.has_form(prompt):
                ids = await self._tokenize(await self._ask(self.words(prompt)), add_special=True)
            case Chat():
                mark = secrets.token_hex(16)
                rendered = await self._ask(self._apart(to_words(prompt), mark))
                ids = await self._tokenize(rendered.split(mark), add_special=True)
        if not ids:
            raise InvalidRequest("the prompt has no tokens", param="prompt")
        return ids

    async def render(self, chat: Chat) -> str:
        """Return what the template writes."""
        return await self._ask(to_words(chat))

    async def _ask(self, words: dict[str, Any]) -> str:
        """Return what the template writes; raise `InvalidRequest` for what it refuses, told by either of two errors."""
        try:
            return (await self._client.ask("/apply-template", words, _Rendered)).prompt
        except EngineError as error:
            if type(error) not in (EngineError, InvalidRequest):
                raise
            if "tools" in words:
                await self._ask({key: value for key, value in words.items() if key not in _ABOUT_TOOLS})
                raise InvalidRequest("llama-server makes nothing of these tools", param="tools") from error
            raise InvalidRequest("the model's chat template refuses this conversation", param="messages") from error

    def _apart(self, words: dict[str, Any], mark: str) -> dict[str, Any]:
        """Put a mark behind the first letter of each special token that a message or a tool spells."""

        def take_apart(text: str) -> str:
            return self._special.sub(lambda found: f"{found[0][0]}{mark}{found[0][1:]}", text)

        return words | {key: _mapped(words[key], take_apart) for key in ("messages", "tools") if key in words}

    async def _tokenize(self, content: str | list[str], *, add_special: bool) -> tuple[int, ...]:
        body = {"content": content, "add_special": add_special, "parse_special": True}
        return (await self._client.ask("/tokenize", body, _Tokenized)).tokens


def _mapped(value: Any, change: Callable[[str], str]) -> Any:  # noqa: ANN401 - of JSON, any part
    """Change all texts in a value, but no names: those of fields, roles, tools and calls."""
    match value:
        case str():
            return change(value)
        case list() | tuple():
            return [_mapped(each, change) for each in value]
        case dict():
            return {key: each if _is_name(key, each) else _mapped(each, change) for key, each in value.items()}
        case _:
            return value


def _is_name(key: str, value: object) -> bool:
    return key in _NAMES and isinstance(value, str) and _WORD.fullmatch(value) is not None


def _shown(name: bytes) -> str:
    return name.decode(errors="replace")
