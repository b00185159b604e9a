"""Bound what a chat template computes: what an operation makes is counted before it is made.

Jinja's own sandbox keeps a template from the interpreter's inside, but not from its memory: `10 ** 10 ** 8`, or a list
of lists of lists, end the process, or keep its one interpreter for minutes where no time limit can strike.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers.utils import chat_template_utils

# What one rendering may make in all, as a multiple of what one value may have, and the least of it.
_ALL = 64
_LEAST = 1 << 28
# Bits of a number; widths, counts and lengths that are given as numbers.
_BITS = 1 << 14
_COUNT = 100_000
# Filters that write their value out, whatever it is.
_WRITERS = frozenset(
    re.split(
        r"\s+",
        "capitalize center e escape forceescape format indent join lower pprint replace safe string striptags title "
        "tojson trim truncate upper urlencode urlize wordcount wordwrap xmlattr",
    )
)
# Filters that may put one value into their result many times.
_COPIERS = frozenset({"batch", "list", "slice"})
_WIDE = re.compile(r"[0-9]{6}|%[^a-zA-Z%]*\*|\{[^{}]*\{")
_ROWS = (list, tuple, set, frozenset)
_TEXTS = (str, bytes)


class BeyondBoundsError(Exception):
    """The template computes numbers or texts that no conversation needs."""


class _Bounds(threading.local):
    """What the rendering in this thread may still make: `largest` is for one value; without one there is no bound."""

    largest: int | None = None
    left = 0

    def take(self, size: int) -> None:
        """Count what is to be made; raise `BeyondBoundsError` where it is too much."""
        if self.largest is None:
            return
        if size > self.largest:
            raise BeyondBoundsError(f"a value of {size} characters or items, and {self.largest} are allowed")
        self.left -= size
        if self.left < 0:
            raise BeyondBoundsError("more characters and items in all than are allowed")

    def size(self, value: object) -> int:
        """Count the characters and items in a value, an item as often as it is there."""
        if self.largest is None:
            return 0
        if isinstance(value, str | bytes):
            return len(value)
        total, pending = 0, [value]
        while pending:
            each = pending.pop()
            total += 1
            if isinstance(each, (*_TEXTS, dict, *_ROWS)):
                total += len(each)
            if total > self.largest:
                raise BeyondBoundsError(f"a value of more than {self.largest} characters and items")
            if isinstance(each, dict):
                pending += [*each, *each.values()]
            elif isinstance(each, _ROWS):
                pending += each
        return total


_bounds = _Bounds()


@contextmanager
def bounds(largest: int) -> Iterator[None]:
    """Allow templates in this thread values of `largest` characters or items; they raise `BeyondBoundsError` beyond."""
    _bounds.largest, _bounds.left = largest, max(_ALL * largest, _LEAST)
    try:
        yield
    finally:
        _bounds.largest = None


class _CountingGenerator(CodeGenerator):
    """Writes templates that count what their literals and `~` make; the names of its methods are Jinja's."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.joined((")
        for each in node.nodes:
            self.visit(each, frame)
            self.write(", ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        self.write("environment.counted(")
        super().visit_List(node, frame)
        self.write(")")

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self.write("environment.counted(")
        super().visit_Dict(node, frame)
        self.write(")")

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        is_read = node.ctx == "load"  # else they are names to assign to
        self.write("environment.counted(" if is_read else "")
        super().visit_Tuple(node, frame)
        self.write(")" if is_read else "")


class _Filters(dict[str, Callable[..., Any]]):
    """Filters that count what they make."""

    def __setitem__(self, name: str, function: Callable[..., Any]) -> None:
        super().__setitem__(name, _counting(name, function))


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which a template's operations, calls and filters keep within `bounds`."""

    code_generator_class = _CountingGenerator
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - Jinja's own
        super().__init__(*args, **options, finalize=self._written)
        plain, self.filters = self.filters, _Filters()
        for name, function in plain.items():
            self.filters[name] = function
        self.binop_table |= {"+": _add, "*": _multiply, "**": _power, "%": _remainder}

    def call(self, context: Context, called: Any, /, *args: Any, **named: Any) -> Any:  # noqa: ANN401 - as above
        """Call what a template calls, where its arguments cannot make too much."""
        args = _checked(called, args)
        return self.counted(super().call(context, called, *args, **named))

    def concat(self, pieces: Iterable[str]) -> str:
        """Join what a template or a part of it wrote."""
        return "".join(_counted(pieces, 1))

    def joined(self, values: Iterable[object]) -> str:
        """Join the values of `~`."""
        return "".join(_counted((str(self._written(value)) for value in values), 0))

    def counted(self, value: Any) -> Any:  # noqa: ANN401 - as above
        """Count a value that was made; return it."""
        if isinstance(value, (*_TEXTS, dict, *_ROWS)):
            _bounds.take(_bounds.size(value))
        return value

    def _written(self, value: object) -> object:
        """Look at a value before it is written out, as a list of lists may be far longer than it is large."""
        if not isinstance(value, str):
            _bounds.size(value)
        return value


def _counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a filter count what it makes; its first argument may be the environment, and then comes the value."""
    at = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def filtered(*given: Any, **named: Any) -> Any:  # noqa: ANN401 - as above
        value, *args = given[at:]
        if name in _WRITERS:
            _bounds.size(value)
        if name not in {"d", "default"}:
            _check_counts([*args, *named.values()])
        if name == "replace":
            _check_replacement(str(value), *args[:2])
        elif name == "format":
            _check_format(str(value), (args, named))
        elif name in {"join", "sum"}:
            value, args, named = _gathered(name, given, args, named, at)
        made = function(*given[:at], value, *args, **named)
        if isinstance(made, str):
            _bounds.take(len(made))
        elif isinstance(made, _ROWS):
            _bounds.take(_bounds.size(made) if name in _COPIERS else len(made))
        return made

    return filtered


def _gathered(
    name: str, given: tuple[Any, ...], args: list[Any], named: dict[str, Any], at: int
) -> tuple[Iterable[Any], list[Any], dict[str, Any]]:
    """Count the items that `join` and `sum` put together, by their attribute where one is named."""
    order = ("d", "attribute") if name == "join" else ("attribute", "start")
    said = dict(zip(order, args, strict=False)) | named
    attribute = said.pop("attribute", None)
    items: Iterable[Any] = given[at]
    if attribute is not None:
        environment = getattr(given[0], "environment", given[0])
        items = map(make_attrgetter(environment, attribute), items)
    return _counted(items, len(str(said.get("d", "")))), [], said


def _counted(items: Iterable[Any], more: int) -> Iterator[Any]:
    """Yield the items; count each, and `more` for what is put beside it."""
    total = 0
    for each in items:
        total += _bounds.size(each) + more
        _check_total(total)
        yield each
    _bounds.take(total)


def _checked(called: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:  # noqa: ANN401 - as above
    """Check the arguments of a method of texts and numbers; return them, those of `join` to be counted."""
    method = getattr(called, "__wrapped__", called)  # `format` is wrapped by Jinja's sandbox
    owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if name == "strftime_now":
        _check_counts(map(len, map(str, args)))
    if not isinstance(owner, str | bytes | int | float):
        return args
    _check_counts(args)
    if name in {"format", "format_map"}:
        _check_format(str(owner), args)
    elif name == "replace" and isinstance(owner, str):
        _check_replacement(owner, *args[:2])
    elif name == "expandtabs" and isinstance(owner, str):
        _check_replacement(owner, "\t", " " * (args[0] if args and isinstance(args[0], int) else 8))
    elif name == "translate" and isinstance(owner, str):
        _check_total(len(owner) * _bounds.size(list(args)))
    elif name == "join" and args and isinstance(owner, str):
        return (_counted(args[0], len(owner)), *args[1:])
    return args


def _check_total(size: int) -> None:
    if _bounds.largest is not None and size > _bounds.largest:
        raise BeyondBoundsError(f"a value of {size} characters or items, and {_bounds.largest} are allowed")


def _check_counts(args: Iterable[object]) -> None:
    """Refuse widths, lengths and repetitions that no text needs."""
    for each in args:
        if isinstance(each, int) and abs(each) > _COUNT:
            raise BeyondBoundsError(f"a width or count beyond {_COUNT}")


def _check_format(text: str, args: Any) -> None:  # noqa: ANN401 - as above
    """Refuse widths of six digits, widths that are arguments, and values written too often."""
    if _WIDE.search(text):
        raise BeyondBoundsError(f"a width beyond {_COUNT}, or one that is an argument")
    _check_total(len(text) + max(text.count("{"), text.count("%")) * _bounds.size(args))


def _check_replacement(text: str, old: object = "", new: object = "") -> None:
    _check_total(len(text) + text.count(str(old)) * len(str(new)))


def _add(left: Any, right: Any) -> Any:  # noqa: ANN401 - as above
    if all(isinstance(value, _TEXTS + _ROWS) for value in (left, right)):
        _bounds.take(len(left) + len(right))
    return left + right


def _multiply(left: Any, right: Any) -> Any:  # noqa: ANN401 - as above
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    for value, times in ((left, right), (right, left)):
        if isinstance(value, _TEXTS + _ROWS) and isinstance(times, int):
            _bounds.take(_bounds.size(value) * max(times, 0))
    return left * right


def _power(left: Any, right: Any) -> Any:  # noqa: ANN401 - as above
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * abs(right))
    return left**right


def _remainder(left: Any, right: Any) -> Any:  # noqa: ANN401 - as above
    if isinstance(left, str | bytes):
        _check_format(str(left), right)
    return left % right


def _check_bits(bits: int) -> None:
    if bits > _BITS:
        raise BeyondBoundsError(f"a number of {bits} bits, and {_BITS} are allowed")


# The one place at which transformers makes the environment of all chat templates.
chat_template_utils.ImmutableSandboxedEnvironment = BoundedEnvironment  # type: ignore[attr-defined]
