"""Compile constraints for one model and keep what was compiled: by hash, and within bounds."""

import hashlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable

import msgspec
from llguidance import LLMatcher, LLTokenizer

from gateway.engine import Constraint, InvalidRequest, Overloaded
from gateway_hf.constrain.grammars import matcher_of, param_of
from gateway_hf.constrain.guide import Ends, Guide
from gateway_hf.constrain.jobs import Job, JobResult
from gateway_hf.constrain.workers import OverBudgetError
from gateway_hf.sampling.terms import Terms

# Grammars that are kept, and about how many bytes they may have together.
_MOST = 256
_MOST_BYTES = 256 << 20
# What those that are kept and those that answers still use may have together.
_MOST_LIVE_BYTES = 1 << 30
# A compiled grammar has a few times the size of its text; one that is used grows by the states that its masks find, and
# a second of computing finds 30 MB of them at the most (measured).
_BYTES_EACH = 64 << 10
_GROWTH = 8
_BYTES_A_SECOND = 32 << 20


class Compiled:
    """A constraint made ready for one model; `constraint` is what it was made of."""

    def __init__(self, constraint: Constraint, matcher: LLMatcher, size: int) -> None:
        self.constraint = constraint
        self.matcher = matcher
        self.size = size
        self._seconds = 0.0

    @property
    def param(self) -> str:
        """The name of the constraint's capability, by which errors name it."""
        return param_of(self.constraint)

    @property
    def weight(self) -> int:
        """About how many bytes it has."""
        return self.size + int(self._seconds * _BYTES_A_SECOND)

    def spend(self, seconds: float) -> None:
        """Count seconds of computing with it; any thread may, and one that is lost does no harm."""
        self._seconds += seconds


class Compiler:
    """Compiles for one model; every method may be called from any thread.

    `run` does a job apart from this process, which takes over only what was compiled there within the budget.
    """

    def __init__(
        self, tokenizer: LLTokenizer, eos_ids: Iterable[int], run: Callable[[Job], JobResult], *, forcing: bool = True
    ) -> None:
        self._forcing = forcing
        self._run = run
        self._live: weakref.WeakSet[Compiled] = weakref.WeakSet()
        self._tokenizer = tokenizer
        self._eos_ids = frozenset(eos_ids)
        self._kept: OrderedDict[bytes, Compiled | InvalidRequest] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, constraint: Constraint) -> Compiled:
        """Return a constraint compiled; raise `InvalidRequest` where that cannot be, or takes too much."""
        kind = param_of(constraint)
        try:
            key = hashlib.blake2b(msgspec.msgpack.encode(constraint), digest_size=32).digest()
        except (RecursionError, OverflowError, TypeError) as error:
            why = "it is nested too deep" if isinstance(error, RecursionError) else "it holds a number of over 64 bits"
            whole = "$" if kind == "json_schema" else f"the {kind} cannot be compiled"
            raise InvalidRequest(f"{whole}: {why}", param=kind) from error
        found = self._find(key)
        if found is None:
            found = self._make(constraint, kind)
            self._keep(key, found)
        if isinstance(found, InvalidRequest):
            raise InvalidRequest(found.message, param=found.param)
        return found

    def guide(self, compiled: Compiled, terms: Terms, after: str | None = None) -> Guide:
        """Begin an answer; with `after` the constraint begins once the answer has said this text."""
        ignored = terms.eos_ids.isdisjoint(self._eos_ids)
        ends = Ends(self._eos_ids, terms.stop_token_ids, ignored=ignored, forcing=self._forcing and not terms.has_bans)
        return Guide(compiled.matcher.deep_copy(), self._tokenizer, ends, compiled, after)

    def _find(self, key: bytes) -> Compiled | InvalidRequest | None:
        with self._lock:
            found = self._kept.get(key)
            if isinstance(found, Compiled) and found.weight > _MOST_BYTES // 4:
                del self._kept[key]
                return None
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def _keep(self, key: bytes, found: Compiled | InvalidRequest) -> None:
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > _MOST or sum(map(_weight, self._kept.values())) > _MOST_BYTES:
                self._kept.popitem(last=False)

    def _make(self, constraint: Constraint, kind: str) -> Compiled | InvalidRequest:
        try:
            result = self._run(Job(constraint))
        except OverBudgetError as error:  # it is not kept: another time the machine may be faster
            raise InvalidRequest(f"to compile the {kind} takes {error}; make it simpler", param=kind) from error
        if result.fault is not None:
            return InvalidRequest(result.fault, param=kind)
        size = max(_BYTES_EACH + _GROWTH * len(result.grammar), result.size)
        if sum(compiled.weight for compiled in self._live) + size > _MOST_LIVE_BYTES:
            raise Overloaded("the constraints of all answers together have too much memory; try again")
        compiled = Compiled(constraint, matcher_of(constraint, result.grammar, self._tokenizer), size)
        self._live.add(compiled)
        return compiled


def _weight(found: Compiled | InvalidRequest) -> int:
    return found.weight if isinstance(found, Compiled) else _BYTES_EACH
