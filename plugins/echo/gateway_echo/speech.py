"""What an echo says, a token at a time: thoughts, then calls of tools or words.

A token is a word with the space behind it. An echo does as it is told, so that calls and thoughts can be tried without
a model: it thinks where it is asked to, and calls the tools that the question names.
"""

import itertools
import json
import re
import secrets
from collections.abc import Iterable, Iterator

from gateway.engine import (
    Chat,
    Completion,
    Delta,
    GenerateRequest,
    InvalidRequest,
    JsonSchema,
    Message,
    Part,
    Prompt,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolDelta,
    ToolResult,
    Unsupported,
)
from gateway_echo.shape import shaped

_WORD = re.compile(r"\S+\s*|\s+")


def read(prompt: Prompt) -> tuple[list[str], int]:
    """Return the words to say, and the number of words in the whole prompt."""
    match prompt:
        case Completion(text):
            words = _words(text)
            return words, len(words)
        case Chat(messages, tools):
            known = sum(len(_words(f"{tool.name} {tool.description} {json.dumps(tool.parameters)}")) for tool in tools)
            spoken = [_words(_said(message)) for message in messages]
            called = sum(len(_words(part.arguments)) + 1 for message in messages for part in _calls(message.parts))
            return spoken[-1], sum(map(len, spoken)) + known + called
        case _:
            raise Unsupported("an echo has no token ids")


def speak(words: list[str], request: GenerateRequest) -> Iterator[Delta | ToolDelta]:
    """Yield one event a token; raise `InvalidRequest` for a shape that an echo does not keep to."""
    chat = request.prompt if isinstance(request.prompt, Chat) else Chat(())
    tools = _called(chat, words)
    said = () if tools else _text(words, request)
    return itertools.chain(_thoughts(chat, words), _call(tools), map(Delta, said))


def _thoughts(chat: Chat, words: list[str]) -> Iterator[Delta]:
    """Think the question over, word by word, within the budget."""
    thinks = chat.reasoning or chat.reasoning_effort not in (None, "minimal") or chat.reasoning_budget
    if thinks and chat.reasoning is not False:
        for word in words[: chat.reasoning_budget]:
            yield Delta("", reasoning=word)


def _called(chat: Chat, words: list[str]) -> tuple[Tool, ...]:
    """Choose the tools to call: those that the question names, and the first one where one has to be called."""
    if chat.tool_choice == "none":
        return ()
    names = {tool.name for tool in chat.tools}
    chosen = {chat.tool_choice} & names or set(chat.allowed_tools) & names or names
    allowed = [tool for tool in chat.tools if tool.name in chosen]
    asked = set(re.findall(r"[\w-]+", "".join(words))) if chat.messages and chat.messages[-1].role == "user" else set()
    found = [tool for tool in allowed if tool.name in asked]
    if not found and chat.tool_choice != "auto":
        found = allowed[:1]
    return tuple(found if chat.parallel_tool_calls else found[:1])


def _call(tools: Iterable[Tool]) -> list[ToolDelta]:
    """Call tools with the smallest arguments that they take."""
    pieces: list[ToolDelta] = []
    for index, tool in enumerate(tools):
        pieces.append(ToolDelta(index, id=f"call_{secrets.token_hex(12)}", name=tool.name, tokens=1))
        pieces += [ToolDelta(index, word, tokens=1) for word in _words(_arguments(tool))]
    return pieces


def _arguments(tool: Tool) -> str:
    """Make arguments; of a tool that is not strict, and whose schema is beyond an echo, none."""
    try:
        return shaped(JsonSchema({"type": "object"} | tool.parameters), "")
    except InvalidRequest as error:
        if tool.strict:
            raise InvalidRequest(f"{tool.name}: {error.message}", param="tools") from error
        return "{}"


def _text(words: list[str], request: GenerateRequest) -> Iterable[str]:
    """Say the words once; over and over where the end is to be ignored; at least `min_tokens` of them.

    A constraint has its own words, and beyond the last of them none keeps to it.
    """
    sampling: Sampling = request.sampling
    if request.constraint is not None:
        own = _words(shaped(request.constraint, "".join(words)))
        if len(own) < (sampling.min_tokens or 0):
            raise InvalidRequest(f"the answer ends after {len(own)} tokens", param="min_tokens")
        return own
    if not words:
        return ()
    if sampling.ignore_eos:
        return itertools.cycle(words)
    return itertools.islice(itertools.cycle(words), max(len(words), sampling.min_tokens or 0))


def _said(message: Message) -> str:
    """Return the texts of a message, and the results in it."""
    return "".join(part.text for part in message.parts if isinstance(part, Text | ToolResult))


def _calls(parts: Iterable[Part]) -> Iterator[ToolCall]:
    return (part for part in parts if isinstance(part, ToolCall))


def _words(text: str) -> list[str]:
    return _WORD.findall(text)
