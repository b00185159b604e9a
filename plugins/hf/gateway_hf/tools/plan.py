"""Plan one answer: which calls and thoughts it may hold, what holds it to them, and how it is read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from gateway.engine import (
    Capability,
    Chat,
    Constraint,
    GenerateRequest,
    Grammar,
    InvalidRequest,
    Prompt,
    Tool,
    Unsupported,
)
from gateway_hf.constrain.grammars import param_of
from gateway_hf.constrain.thought_guide import ThoughtBounds
from gateway_hf.text.codec import TextCodec
from gateway_hf.tools.forms import NO_CALLS
from gateway_hf.tools.grammar import CallRules, write_grammar
from gateway_hf.tools.parser import AnswerReading
from gateway_hf.tools.thoughts import ThoughtForm

# Any other choice names the one tool that is called, once.
_CHOICES = ("auto", "required")
# No mark of a thought has more tokens.
_MARK_TOKENS = 16


class AnswerPlan(NamedTuple):
    """How an answer is held and read: `reading` is None where it is text as it is written.

    The `constraint` begins behind the text `after`, where there is one. `is_of_tools` says that tools ask for it, and
    `content` is then what the answer has to be where it calls nothing. Its thoughts are bound as `thoughts` says.
    """

    reading: AnswerReading | None = None
    constraint: Constraint | None = None
    after: str | None = None
    is_of_tools: bool = False
    content: Constraint | None = None
    thoughts: ThoughtBounds | None = None

    @property
    def param(self) -> str | None:
        """The name of what asks for the constraint, where there is one."""
        return "tools" if self.is_of_tools else None if self.constraint is None else param_of(self.constraint)


@contextmanager
def naming(plan: AnswerPlan) -> Iterator[None]:
    """Have an error about the constraint of an answer name what asks for it."""
    try:
        yield
    except InvalidRequest as error:
        error.param = plan.param if plan.is_of_tools else error.param or plan.param
        raise


def plan_answer(text: TextCodec, request: GenerateRequest) -> AnswerPlan:
    """Plan the answer to a request; raise `InvalidRequest` for a choice among tools that cannot be made."""
    chat = request.prompt
    tools = callable_tools(chat) if isinstance(chat, Chat) else []
    if not isinstance(chat, Chat) or (not tools and text.thoughts is None):
        return AnswerPlan(constraint=request.constraint)
    if text.thoughts is not None and text.thoughts.always and _budget(chat) == 0:
        raise Unsupported("the model thinks before each answer, and cannot be told not to", param=Capability.REASONING)
    form = text.tools.form if tools else NO_CALLS
    reading = AnswerReading(form, text.thoughts, {tool.name: tool for tool in tools})
    if not tools or not (text.tools.is_generic or _is_held(chat) or request.constraint is not None):
        return AnswerPlan(reading, request.constraint)
    is_single = not chat.parallel_tool_calls or chat.tool_choice not in _CHOICES
    rules = CallRules(tools, chat.tool_choice != "auto", is_single, request.constraint)
    grammar = Grammar(write_grammar(form, rules, text.special_ids))
    return AnswerPlan(reading._replace(is_held=True), grammar, is_of_tools=True, content=request.constraint)


def begin_answer(text: TextCodec, plan: AnswerPlan, prompt: Prompt, ids: Sequence[int]) -> AnswerPlan:
    """Complete a plan by what the prompt's ids say: whether the answer begins inside a thought, or will with one."""
    thoughts = text.thoughts
    if plan.reading is None or thoughts is None or not isinstance(prompt, Chat):
        return plan
    is_thinking = _ends_thinking(text, prompt, ids, thoughts)
    after = thoughts.close if is_thinking or _will_think(text, prompt, thoughts) else None
    bounds = None
    if (budget := _budget(prompt)) is not None:
        bounds = ThoughtBounds(thoughts.opens, thoughts.close, text.spell_mark(thoughts.close), budget, is_thinking)
    return plan._replace(reading=plan.reading._replace(is_thinking=is_thinking), after=after, thoughts=bounds)


def capabilities_of(text: TextCodec, *, constrains: bool) -> set[Capability]:
    """List what a model that chats can be asked for beyond text; `constrains` says whether a grammar can hold it."""
    found = set()
    if constrains or not text.tools.is_generic:
        found.add(Capability.TOOLS)
    if constrains:
        found.add(Capability.PARALLEL_TOOL_CALLS)
    if text.thoughts is not None:
        found.add(Capability.REASONING)
        found |= {Capability.REASONING_EFFORT} if text.has_effort else set()
        found |= {Capability.REASONING_BUDGET} if constrains else set()
    return found


def callable_tools(chat: Chat) -> list[Tool]:
    """List the tools that the answer may call; raise `InvalidRequest` where one is chosen that there is not."""
    if chat.tool_choice == "none":
        return []
    known = {tool.name: tool for tool in chat.tools}
    if len(known) < len(chat.tools):
        raise InvalidRequest("two tools have one name", param="tools")
    named = () if chat.tool_choice in _CHOICES else (chat.tool_choice,)
    for name in (*named, *chat.allowed_tools):
        if name not in known:
            raise InvalidRequest(f"there is no tool {name!r} among tools", param="tool_choice")
    if chat.tool_choice != "auto" and not known:
        raise InvalidRequest("a call is required, and there are no tools", param="tool_choice")
    return [known[name] for name in (named or chat.allowed_tools or known)]


def _is_held(chat: Chat) -> bool:
    """Tell whether something is asked of the calls that a model may not do by itself."""
    asks = chat.tool_choice != "auto" or chat.allowed_tools or not chat.parallel_tool_calls
    return bool(asks) or any(tool.strict for tool in chat.tools)


def _budget(chat: Chat) -> int | None:
    """Return how many tokens there are to think in: none where the model is not to think."""
    return 0 if chat.reasoning is False else chat.reasoning_budget


def _ends_thinking(text: TextCodec, chat: Chat, ids: Sequence[int], thoughts: ThoughtForm) -> bool:
    """Tell whether the answer to a conversation of these ids begins inside a thought."""
    if not chat.continue_final:
        tail = "".join(text.detokenize(ids[-_MARK_TOKENS:]))
        return tail.rstrip().endswith(tuple(map(str.rstrip, thoughts.opens)))
    said = chat.messages[-1].text
    return max(map(said.rfind, thoughts.opens)) > said.rfind(thoughts.close)


def _will_think(text: TextCodec, chat: Chat, thoughts: ThoughtForm) -> bool:
    """Tell whether the model opens a thought by itself: told to, or as one does that can only be told not to."""
    if thoughts.always:
        return True
    set_to = [chat.template_arguments[name] for name in text.switches if name in chat.template_arguments]
    wanted = set_to[0] if set_to else chat.reasoning
    return bool(wanted) if wanted is not None else "enable_thinking" in text.switches
