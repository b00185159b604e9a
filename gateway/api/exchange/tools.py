"""Tools in any dialect: their bounds, the choice among them, and calls that wait for their results; pure.

A dialect reads its own shapes into the structs of `gateway.engine`, and says here by which paths its client knows them.
"""

import re
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from gateway.api.exchange.schema_limits import check_schema
from gateway.engine import InvalidRequest, Tool

MOST_TOOLS = 128
TOOL_NAME = "^[A-Za-z0-9_-]{1,64}$"
# All tools of a request together, as JSON: far more than any context window holds.
MOST_TOOL_BYTES = 512 * 1024

_is_name = re.compile(TOOL_NAME).match
# What a choice is called that names no tool.
_MODES = frozenset({"auto", "none", "required"})


class ToolPaths(Struct, frozen=True):
    """Where a dialect keeps the parts of a tool: the tool itself by its number, and its schema's own name."""

    tool: str
    schema: str

    def to(self, number: int, part: str) -> str:
        """Return the path of one part."""
        return f"{self.tool.format(number)}.{part}"


class ToolChoice(Struct, frozen=True):
    """Which tools may be called: as `Chat.tool_choice` and `Chat.allowed_tools` say it."""

    choice: str = "auto"
    allowed: tuple[str, ...] = ()


def check_tools(tools: Sequence[Tool], paths: ToolPaths, field: str = "tools") -> None:
    """Raise `InvalidRequest` for tools that no engine has to understand, naming what is at fault.

    There are 128 tools of 512 KiB together at most, each with a name of its own and a schema of an object, which has
    the bounds of the schemas that answers are held to.
    """
    if len(tools) > MOST_TOOLS:
        raise InvalidRequest(f"{len(tools)} tools are too many; {MOST_TOOLS} are the most", param=field)
    names: set[str] = set()
    for number, tool in enumerate(tools):
        path = paths.to(number, "name")
        if not _is_name(tool.name) or tool.name.endswith("\n"):
            raise InvalidRequest("a tool's name is 1 to 64 letters, digits, _ and -", param=path)
        if tool.name in names:
            raise InvalidRequest(f"there are two tools {tool.name!r}; give each a name of its own", param=path)
        names.add(tool.name)
        if tool.parameters.get("type", "object") != "object":
            raise InvalidRequest(
                "a tool is called with an object: its schema has the type 'object'",
                param=f"{paths.to(number, paths.schema)}.type",
            )
        check_schema(tool.parameters, paths.to(number, paths.schema))
    if tools and (size := len(msgspec.json.encode(tools))) > MOST_TOOL_BYTES:
        raise InvalidRequest(f"the tools take {size} bytes; {MOST_TOOL_BYTES} are the most", param=field)


def choose(choice: str, tools: Sequence[Tool], param: str = "tool_choice") -> ToolChoice:
    """Make the choice `auto`, `none` or `required`; raise `InvalidRequest` where no tool is there to be called."""
    if choice == "required" and not tools:
        raise InvalidRequest("there are no tools to choose from", param=param)
    return ToolChoice(choice)


def choose_one(name: str | None, tools: Sequence[Tool], param: str) -> ToolChoice:
    """Choose the one tool to call; raise `InvalidRequest` where it is not there."""
    return choose_among((name or "",), "required", tools, (param,))


def choose_among(names: Sequence[str], choice: str, tools: Sequence[Tool], params: Sequence[str]) -> ToolChoice:
    """Choose among the named tools alone; raise `InvalidRequest` for a name that is not there, by its param."""
    known = {tool.name for tool in tools}
    for name, param in zip(names, params, strict=True):
        if name not in known:
            raise InvalidRequest(f"there is no tool {name!r} among tools", param=param)
    allowed = tuple(dict.fromkeys(names))
    # A tool that is called like a mode is chosen as the only one that is allowed.
    if choice == "required" and len(allowed) == 1 and allowed[0] not in _MODES:
        return ToolChoice(allowed[0])
    return ToolChoice(choice, allowed)


class PendingCalls:
    """Calls of a conversation whose results have not come yet: each result answers one call of the turn before.

    No dialect lets a turn come between: a model has never seen such a conversation.
    """

    def __init__(self) -> None:
        self._open: dict[str, str] = {}

    def call(self, call_id: str, path: str) -> None:
        """Take a call; raise `InvalidRequest` for an id that another one of its turn has."""
        if call_id in self._open:
            raise InvalidRequest(f"two calls have the id {call_id!r:.80}", param=path)
        self._open[call_id] = path

    def answer(self, call_id: str, path: str) -> None:
        """Take a result; raise `InvalidRequest` where it answers no call of the turn before, or a second time."""
        if self._open.pop(call_id, None) is None:
            raise InvalidRequest(f"the turn before makes no call {call_id!r:.80} that waits for a result", param=path)

    def close(self, path: str) -> None:
        """Take the beginning of another turn; raise `InvalidRequest` while a call waits for its result."""
        if self._open:
            missing = next(iter(self._open))
            raise InvalidRequest(f"the result of the call {missing!r:.80} has to come before this turn", param=path)

    @property
    def only(self) -> str | None:
        """The id of the one call that waits, where it is one."""
        return next(iter(self._open)) if len(self._open) == 1 else None
