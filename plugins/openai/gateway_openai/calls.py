"""Put the pieces of a server's calls in the order that the contract wants: one call after another."""

import json
from collections.abc import Iterable
from secrets import token_hex

from gateway.engine import ToolDelta, UpstreamFailed
from gateway_openai.chunks import FrameCall

_MOST_CALLS = 128


class CallReader:
    """Takes pieces of calls as servers send them, and numbers the calls anew.

    A piece without an index goes on with the last call; one that says a name and another id begins the next, whatever
    its index. An id that is missing, or was given before, is made up. Raises `UpstreamFailed` for a piece of a
    call that another has followed, for a call without a name, and for more than 128 calls.
    """

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._places: dict[int, int] = {}

    @property
    def count(self) -> int:
        """The number of calls so far."""
        return len(self._ids)

    def read(self, pieces: Iterable[FrameCall]) -> list[ToolDelta]:
        """Return the deltas of the pieces of one frame, without tokens."""
        return [self._read(piece) for piece in pieces]

    def _read(self, piece: FrameCall) -> ToolDelta:
        function = piece.function
        name = (function.name if function is not None else None) or ""
        arguments = _text(function.arguments if function is not None else None)
        last = self._ids[-1] if self._ids else None
        known = self._places.get(piece.index) if piece.index is not None else (self.count - 1 if self._ids else None)
        if known is None or (piece.id and piece.id != self._ids[known] and name):
            return self._begin(piece, name, arguments)
        if known != self.count - 1 or (piece.id and piece.id != last):
            raise UpstreamFailed("the server behind this model contradicts itself in its calls")
        return ToolDelta(known, arguments)

    def _begin(self, piece: FrameCall, name: str, arguments: str) -> ToolDelta:
        if not name:
            raise UpstreamFailed("the server behind this model calls a tool without a name")
        if self.count == _MOST_CALLS:
            raise UpstreamFailed(f"the server behind this model makes more than {_MOST_CALLS} calls")
        number = self.count
        own = piece.id if piece.id and piece.id not in self._ids else f"call_{token_hex(12)}"
        self._ids.append(own)
        if piece.index is not None:
            self._places[piece.index] = number
        return ToolDelta(number, arguments, own, name)


def _text(arguments: str | dict[str, object] | None) -> str:
    if isinstance(arguments, dict):
        return json.dumps(arguments, ensure_ascii=False)
    return arguments or ""
