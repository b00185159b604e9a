"""Make the tokens that the model reads: by the server's template and tokenizer."""

import re
import secrets
from typing import Any

from msgspec import Struct

from gateway.engine import Chat, Completion, InvalidRequest, Message, Prompt, Thought, Tokens
from gateway_llamacpp.client import LlamaClient
from gateway_llamacpp.vocabulary import GgufVocabulary


class _Rendered(Struct, frozen=True):
    prompt: str


class _Tokenized(Struct, frozen=True):
    tokens: tuple[int, ...]


class PromptReader:
    """Turns prompts into ids. A special token is read in raw texts and in templates, and never in a message."""

    def __init__(self, client: LlamaClient, vocabulary: GgufVocabulary) -> None:
        self._client = client
        self._vocabulary = vocabulary
        names = sorted(vocabulary.specials, key=len, reverse=True)
        # The first letter of each name is set apart from the others; a name of one letter is a text like any other.
        self._special = re.compile("|".join(re.escape(name) for name in map(_shown, names) if len(name) > 1) or r"(?!)")

    async def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Return the ids of a prompt; raise `InvalidRequest` for one that has none."""
        match prompt:
            case Tokens(ids):
                self._vocabulary.check(ids, "prompt")
            case Completion(text, add_special):
                ids = await self._tokenize(text, add_special=add_special)
            case Chat():
                rendered, mark = await self._render(prompt)
                ids = await self._tokenize(rendered.split(mark), add_special=True)
        if not ids:
            raise InvalidRequest("the prompt has no tokens", param="prompt")
        return ids

    async def render(self, chat: Chat) -> str:
        """Return what the template writes."""
        rendered, mark = await self._render(chat)
        return rendered.replace(mark, "")

    async def _render(self, chat: Chat) -> tuple[str, str]:
        """Return what the template writes, and the mark that stands inside each name of a special token in a text."""
        mark = secrets.token_hex(16)
        body: dict[str, Any] = {
            "messages": [self._message(message, mark) for message in chat.messages],
            "add_generation_prompt": chat.generation_prompt and not chat.continue_final,
        }
        if chat.continue_final:
            body["continue_final_message"] = True
        arguments = dict(chat.template_arguments)
        if chat.reasoning is not None:
            arguments["enable_thinking"] = chat.reasoning
        if arguments:
            body["chat_template_kwargs"] = arguments
        try:
            return (await self._client.ask("/apply-template", body, _Rendered)).prompt, mark
        except InvalidRequest as error:
            raise InvalidRequest("the model's chat template refuses this conversation", param="messages") from error

    def _message(self, message: Message, mark: str) -> dict[str, str]:
        written = {"role": message.role, "content": self._split(message.text, mark)}
        thought = "".join(part.text for part in message.parts if isinstance(part, Thought))
        return written | ({"reasoning_content": self._split(thought, mark)} if thought else {})

    def _split(self, text: str, mark: str) -> str:
        return self._special.sub(lambda found: f"{found[0][0]}{mark}{found[0][1:]}", text)

    async def _tokenize(self, content: str | list[str], *, add_special: bool) -> tuple[int, ...]:
        body = {"content": content, "add_special": add_special, "parse_special": True}
        return (await self._client.ask("/tokenize", body, _Tokenized)).tokens


def _shown(name: bytes) -> str:
    return name.decode(errors="replace")
