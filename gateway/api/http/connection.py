"""A request as it came, without what a framework finds out about it."""

from typing import Protocol

from litestar.types import Receive, Scope
from msgspec import Struct


class HttpConnection(Protocol):
    """What it takes to read a request and to see its client leave; Litestar's `Request` has it."""

    @property
    def scope(self) -> Scope:
        """The head of the request, as ASGI has it."""
        ...

    @property
    def receive(self) -> Receive:
        """The next piece of the body; behind the last one, that the client has left."""
        ...


class RawRequest(Struct, frozen=True, gc=False):
    """The two of them, at a tenth of what it takes to make a `Request`."""

    scope: Scope
    receive: Receive
