"""A model's chat templates: of several named ones the default, and where there are tools the one for them."""

import logging
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from gateway.engine import Chat
from gateway_hf.text.probe import TemplateFacts, try_out
from gateway_hf.text.template import variables
from gateway_hf.tools.probe import PROBED, ToolFacts, try_tools

_log = logging.getLogger("gateway_hf")


class ChatTemplate(NamedTuple):
    """The source of one template, the variables of it that a request may set, and what it does with messages."""

    source: str = ""
    variables: frozenset[str] = frozenset()
    facts: TemplateFacts = TemplateFacts()


class ChatTemplates(NamedTuple):
    """The template of plain conversations and the one of those with tools, mostly the same, and how tools reach it."""

    plain: ChatTemplate = ChatTemplate()
    with_tools: ChatTemplate = ChatTemplate()
    tools: ToolFacts = ToolFacts()

    def chosen(self, chat: Chat) -> ChatTemplate:
        """Return the one that transformers chooses for a conversation: by whether it is given tools as a variable."""
        is_given = chat.tools and chat.tool_choice != "none" and not (self.tools.is_generic or self.tools.in_system)
        return self.with_tools if is_given else self.plain


def read_templates(tokenizer: PreTrainedTokenizerBase) -> ChatTemplates | None:
    """Try a model's templates out; `None`, with a line in the log, where it can have no conversation."""
    plain = _read(tokenizer)
    if plain is None:
        return None
    with_tools = plain if source_of(tokenizer, tools=True) == plain.source else _read(tokenizer, tools=True)
    if with_tools is None:
        return ChatTemplates(plain, plain)
    tools = try_tools(tokenizer, with_tools.source, with_tools.facts.parts)
    if tools.in_parts:
        plain, with_tools = _with_results_in_parts(plain), _with_results_in_parts(with_tools)
    return ChatTemplates(plain, with_tools, tools)


def source_of(tokenizer: PreTrainedTokenizerBase, *, tools: bool = False) -> str | None:
    """Return the source of the template; of several named ones, the default or the one for tools."""
    if not tokenizer.chat_template:
        return None
    try:
        source: object = tokenizer.get_chat_template(tools=[] if tools else None)
    except ValueError:
        source = None
    return source if isinstance(source, str) else None


def _read(tokenizer: PreTrainedTokenizerBase, *, tools: bool = False) -> ChatTemplate | None:
    """Try one template out; without the one for tools, an instruction serves."""
    lack = "tools are told by an instruction" if tools else "the model has no chat"
    source = source_of(tokenizer, tools=tools)
    if source is None:
        if tokenizer.chat_template:
            _log.error("of the chat templates none is the default, or it is no text; %s", lack)
        return None
    known = variables(source, tokenizer.special_tokens_map)
    facts = try_out(tokenizer, known, {"tools": [PROBED]} if tools else {}, lack)
    return None if facts is None else ChatTemplate(source, known, facts)


def _with_results_in_parts(template: ChatTemplate) -> ChatTemplate:
    return template._replace(facts=template.facts._replace(parts=template.facts.parts | {"tool"}))
