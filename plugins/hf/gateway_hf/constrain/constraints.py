"""The constraints of a served model: compiled before an answer begins, and proved before it is said to have ended."""

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from llguidance import LLTokenizer

from gateway.engine import (
    Constraint,
    Delta,
    EngineError,
    Finished,
    FinishReason,
    GenerateEvent,
    Grammar,
    JsonObject,
    JsonSchema,
    Overloaded,
    Unsupported,
)
from gateway_hf.batch import Generation
from gateway_hf.constrain.compiler import Compiled, Compiler
from gateway_hf.constrain.guide import Guide
from gateway_hf.constrain.jobs import Job
from gateway_hf.constrain.thought_guide import AnswerGuide, ThoughtBounds, ThoughtGuide
from gateway_hf.constrain.workers import OverBudgetError, Workers
from gateway_hf.sampling.terms import Terms

_log = logging.getLogger("gateway_hf")

T = TypeVar("T")

# How an answer ends that nothing cuts off.
_BY_ITSELF = (FinishReason.STOP, FinishReason.TOOL_CALLS)
# What may wait to be compiled or proved.
_MOST_JOBS = 256
_THREADS = 2
# Seconds.
_WARM_AFTER = 2.0
# The threads, which compile once more what the processes could, give way to those of the model.
_NICE = 5


class Held:
    """What one answer is held to: a way through its grammar, and the proof that it went all of it.

    Where the grammar is one of calls, `content` is what the text has to be of an answer that makes none.
    """

    def __init__(self, constraints: "Constraints", compiled: Compiled, content: Constraint | None = None) -> None:
        self._constraints = constraints
        self._compiled = compiled
        self._content = content
        self._said: list[str] = []
        self._guide: Guide | None = None

    def guide(self, terms: Terms, after: str | None = None) -> Guide:
        """Begin the answer; the constraint begins once it has said `after`."""
        self._guide = self._constraints.compiler.guide(self._compiled, terms, after)
        return self._guide

    async def hear(self, event: GenerateEvent, generation: Generation) -> None:
        """Take the next event; raise `EngineError` for the end of an answer that breaks its constraint.

        An answer that its limit, or a stop text or token of the caller's, cut off is none that ended by itself.
        """
        if isinstance(event, Delta):
            self._said.append(event.text)
        elif isinstance(event, Finished) and event.reason in _BY_ITSELF and event.stop is None:
            begin = generation.sequence.prompt_tokens
            tokens = generation.sequence.tokens[begin : begin + event.usage.completion_tokens - 1]
            said = "".join(self._said)
            await self._constraints.prove(self._compiled, self._guide, tokens, said)
            # Of other kinds white space at the ends counts, which stands for nothing beside calls and thoughts.
            if isinstance(self._content, JsonSchema | JsonObject) and event.reason is FinishReason.STOP:
                await self._constraints.prove_text(self._content, said)


class Constraints:
    """Compiles and proves in threads of its own, so that no prompt and no step waits for a schema.

    Without `forcing`, tokens that must follow are drawn one by one as well.
    """

    def __init__(
        self, tokenizer: LLTokenizer, eos_ids: frozenset[int], workers: Workers, *, forcing: bool = True
    ) -> None:
        self.compiler = Compiler(tokenizer, eos_ids, workers.run, forcing=forcing)
        self._tokenizer = tokenizer
        self._workers = workers
        self._forcing = forcing
        self._warm = threading.Timer(_WARM_AFTER, _start_if_kept, [weakref.ref(self)])
        self._warm.daemon = True
        self._warm.start()
        self._threads = ThreadPoolExecutor(_THREADS, "hf-constrain", _give_way)
        self._jobs = 0

    async def hold(self, constraint: Constraint, content: Constraint | None = None) -> Held:
        """Compile a constraint; `content` is the part of it for an answer that makes no calls.

        Raises `InvalidRequest` where it cannot be compiled, and `Overloaded` where too many wait for that.
        """
        return Held(self, await self._run(lambda: self.compiler.compile(constraint)), content)

    def bound_thoughts(self, bounds: ThoughtBounds, guide: Guide | None, terms: Terms) -> ThoughtGuide:
        """Begin an answer whose thoughts have a budget; behind them it goes on as `guide` says, if there is one."""
        return ThoughtGuide(bounds, self._tokenizer, guide, forcing=self._forcing and not terms.has_bans)

    async def prove(self, compiled: Compiled, guide: Guide | None, tokens: list[int], text: str) -> None:
        """Raise `EngineError` unless an answer that ended by itself is what it is held to.

        `tokens` are the answer's, without the one that ended it; `text` is what was said of them.
        """
        _refuse(await self._run(lambda: self._find_fault(compiled, guide, tokens, text)))

    async def prove_text(self, constraint: Constraint, text: str) -> None:
        """Raise `EngineError` unless a text keeps to a constraint that is no grammar."""
        _refuse(await self._run(lambda: self._find_fault_in(constraint, text)))

    def close(self) -> None:
        """End what is being compiled, and the threads."""
        self._warm.cancel()
        self._workers.close()
        self._threads.shutdown(cancel_futures=True)

    async def _run(self, job: Callable[[], T]) -> T:
        if self._jobs >= _MOST_JOBS:
            raise Overloaded("too many constraints wait to be compiled by this model")
        self._jobs += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, job)
        finally:
            self._jobs -= 1

    def _find_fault(self, compiled: Compiled, guide: Guide | None, tokens: list[int], text: str) -> str | None:
        if guide is None or guide.is_free:
            return "it ended before the constraint began"
        if isinstance(compiled.constraint, Grammar):
            return self._find_dead_end(compiled, guide.lead, tokens[guide.began :])
        if guide.began:
            said = guide.lead + self._tokenizer.decode_bytes(tokens[guide.began :])
            text = said.decode(errors="replace")
        return self._find_fault_in(compiled.constraint, text)

    def _find_fault_in(self, constraint: Constraint, text: str) -> str | None:
        try:
            return self._workers.run(Job(constraint, text)).fault
        except OverBudgetError as error:
            return f"to check it takes {error}"

    def start(self) -> None:
        """Start the workers before they are needed, but not for an engine that is gone in a moment."""
        try:
            self._workers.start()
        except EngineError as error:
            _log.warning("%s", error.message)

    def _find_dead_end(self, compiled: Compiled, lead: bytes, tokens: list[int]) -> str | None:
        matcher = compiled.matcher.deep_copy()
        if matcher.consume_tokens(self._tokenizer.tokenize_bytes(lead) + tokens) and matcher.is_accepting():
            return None
        return "it is no sentence of the grammar"


def _refuse(fault: str | None) -> None:
    """Raise `EngineError` where there is a fault."""
    if fault is not None:
        _log.error("a constrained answer is none that its constraint allows: %s", fault)
        raise EngineError("the answer does not keep to its constraint, so it is not finished")


def bind(
    constraints: Constraints | None, bounds: ThoughtBounds, guide: Guide | None, terms: Terms
) -> AnswerGuide | None:
    """Bind the thoughts of an answer; raise `Unsupported` where it begins with one that cannot be closed."""
    if constraints is not None:
        return constraints.bound_thoughts(bounds, guide, terms)
    if bounds.is_thinking:
        raise Unsupported("the model's thoughts cannot be closed; the log says why", param="reasoning")
    return guide


def _give_way() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _start_if_kept(constraints: "weakref.ref[Constraints]") -> None:
    """Start the processes, unless the model was dropped meanwhile, as after a load that was given up."""
    if (kept := constraints()) is not None:
        kept.start()
