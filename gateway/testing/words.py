"""A prompt as words, each of which is a token with the space behind it."""

import re
from collections.abc import Iterator

from gateway.engine import Chat, Completion, Message, Prompt, Text, Thought, Tokens, ToolCall, ToolResult, Unsupported

_WORD = re.compile(r"\S+\s*|\s+")


def last_text(prompt: Prompt) -> str:
    """Return the text of a prompt, of a conversation that of its last message."""
    match prompt:
        case Completion(text):
            return text
        case Chat(messages):
            return messages[-1].text
        case Tokens():
            return ""


def count_words(prompt: Prompt) -> int:
    """Count the tokens of a prompt."""
    return len(prompt.ids) if isinstance(prompt, Tokens) else len(words_of(prompt))


def words_of(prompt: Prompt) -> list[str]:
    """Return the words of a prompt, those of calls and results too; raise `Unsupported` for token ids."""
    match prompt:
        case Completion(text):
            return _WORD.findall(text)
        case Chat(messages):
            return [word for message in messages for text in _texts(message) for word in _WORD.findall(text)]
        case Tokens():
            raise Unsupported("these words have no numbers before they came")


def _texts(message: Message) -> Iterator[str]:
    for part in message.parts:
        match part:
            case Text(text) | Thought(text) | ToolResult(text=text):
                yield text
            case ToolCall():
                yield f"{part.name} {part.arguments}"
