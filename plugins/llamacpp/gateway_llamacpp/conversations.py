"""Conversations whose answers have a form, calls and thoughts: the server's chat endpoint knows that of each model."""

from collections.abc import Mapping
from typing import Any

from gateway.engine import Chat, Choice, GenerateRequest, Grammar, InvalidRequest, Regex, Unsupported
from gateway_openai.messages import to_messages, to_tools
from gateway_openai.profiles import PROFILES

_PROFILE = PROFILES["llama-server"]
# What the chat endpoint does not tell, or cannot be told; their neutral values ask for nothing.
_UNTOLD = ("logprobs", "token_ids", "stop_token_ids", "include_stop_str_in_output")


def to_words(chat: Chat) -> dict[str, Any]:
    """Return a conversation as `/apply-template` and `/v1/chat/completions` read it; a plain one has no tools."""
    body: dict[str, Any] = {
        "messages": to_messages(chat, _PROFILE),
        "add_generation_prompt": chat.generation_prompt and not chat.continue_final,
    }
    if chat.tools and chat.tool_choice != "none":
        body |= to_tools(chat, _PROFILE)
    if chat.continue_final:
        body["continue_final_message"] = True
    arguments = dict(chat.template_arguments)
    if chat.reasoning is not None:
        arguments["enable_thinking"] = chat.reasoning
    if arguments:
        body["chat_template_kwargs"] = arguments
    return body


def has_form(chat: Chat, *, thinks: bool) -> bool:
    """Tell whether the answer may have calls or thoughts; one that must call is held to that, and has no other form."""
    return chat.tool_choice == "auto" if _calls(chat) else thinks and chat.reasoning is not False


def check_form(request: GenerateRequest, tokens: int) -> None:
    """Raise `InvalidRequest` for what the chat endpoint would not do, with an answer that has a form."""
    chat = request.prompt
    if not isinstance(chat, Chat):
        return
    what = "that calls tools" if _calls(chat) else "that thinks (ask with reasoning off)"
    for name in _UNTOLD:
        value = getattr(request.sampling, name)
        if value is not None and value is not False and value != ():
            raise Unsupported(f"llama-server does not take this for an answer {what}", param=name)
    if request.truncate is not None and tokens > request.truncate:
        raise Unsupported(f"llama-server does not cut the prompt of an answer {what}", param="truncate_prompt_tokens")
    if request.constraint is None:
        return
    if _calls(chat):
        raise Unsupported("llama-server holds no answer to a shape that may call tools", param="tools")
    if chat.reasoning and isinstance(request.constraint, Choice | Regex | Grammar):
        raise InvalidRequest(
            "llama-server holds a thought to this shape too: ask with reasoning off", param="reasoning"
        )


def _calls(chat: Chat) -> bool:
    return bool(chat.tools) and chat.tool_choice != "none"


def to_chat_body(words: Mapping[str, Any], drawing: Mapping[str, Any], stop: tuple[str, ...] | None) -> dict[str, Any]:
    """Return the body that asks the chat endpoint, streamed with its usage."""
    body = {**words, **drawing, "stream": True, "stream_options": {"include_usage": True}}
    if stop:
        body["stop"] = stop
    return body
