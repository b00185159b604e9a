"""The client behind proxies: its address, and the scheme and the host that it asked for.

Any client can send these headers. They count where the connection comes from a trusted proxy
(`server.forwarded_allow`), and are read from the right: each proxy adds the address that it saw, so one counts if all
to the right of it are trusted. Of the headers for addresses one is read, `server.forwarded_header`: a proxy that sets
one passes on what clients put into the others.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, NamedTuple

from litestar.types import HTTPScope

from gateway.config import ServerSettings

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

# More proxies than any request has behind it.
_MOST_HOPS = 32
_MOST_LETTERS = 4_096
_SCHEMES: Mapping[str, Literal["http", "https"]] = {"http": "http", "https": "https"}
_PAIR = r"""[!#$%&'*+.^_`|~\w-]+=(?:"(?:[^"\\]|\\.)*"|[^\s"(),/;<=>?@\\{}]*)"""
# Held to the grammar as a whole: a quote that a client left open would else swallow what the proxy has added.
_FORWARDED = re.compile(rf"\s*(?:{_PAIR}\s*)?(?:[;,]\s*(?:{_PAIR}\s*)?)*", re.ASCII)
_TOKENS = re.compile(r"""([!#$%&'*+.^_`|~\w-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"(),/;<=>?@\\{}]*))|(,)""", re.ASCII)


class _Hop(NamedTuple):
    """What a proxy says of the one that asked it; empty where it says nothing."""

    address: str = ""
    scheme: str = ""
    host: str = ""


def take_forwarded(scope: HTTPScope, settings: ServerSettings) -> str:
    """Put the client's address and scheme into `scope`; return the host that it asked for, empty where none is told.

    The port of a forwarded address is left out (0): proxies seldom tell it.
    """
    peer = scope["client"]
    trusted = _networks(settings.forwarded_allow)
    if peer is None or not _is_in(_address(peer[0]), trusted):
        return ""
    client, told = "", _Hop()
    for hop in reversed(_READERS[settings.forwarded_header](scope)[-_MOST_HOPS:]):
        address = _address(hop.address)
        if address is None:
            break  # `unknown`, or a name of the proxy's own: what is behind it cannot be known
        client, told = str(address), hop
        if not _is_in(address, trusted):
            break
    if client:
        scope["client"] = (client, 0)
    if settings.forwarded_header == "forwarded":  # what clients put into the others was passed on
        scheme, host = told.scheme, told.host
    else:
        scheme, host = _nearest(scope, b"x-forwarded-proto"), _nearest(scope, b"x-forwarded-host")
    scope["scheme"] = _SCHEMES.get(scheme.lower(), scope["scheme"])
    return host


def _list_of_addresses(scope: HTTPScope) -> Sequence[_Hop]:
    return [_Hop(address) for address in _joined(scope, b"x-forwarded-for").rsplit(",", _MOST_HOPS)]


def _single_address(scope: HTTPScope) -> Sequence[_Hop]:
    return [_Hop(_nearest(scope, b"x-real-ip"))]


def _elements(scope: HTTPScope) -> Sequence[_Hop]:
    """Read `Forwarded` (RFC 7239); nothing of one that is not well-formed, or longer than any honest one."""
    text = _joined(scope, b"forwarded")
    if len(text) > _MOST_LETTERS or not _FORWARDED.fullmatch(text):
        return []
    hops: list[dict[str, str]] = [{}]
    for name, quoted, plain, comma in _TOKENS.findall(text):
        if comma:
            hops.append({})
        else:
            hops[-1][name.lower()] = re.sub(r"\\(.)", r"\1", quoted) or plain
    return [_Hop(hop.get("for", ""), hop.get("proto", ""), hop.get("host", "")) for hop in hops]


_READERS: Mapping[str, Callable[[HTTPScope], Sequence[_Hop]]] = {
    "x-forwarded-for": _list_of_addresses,
    "forwarded": _elements,
    "x-real-ip": _single_address,
}


def _joined(scope: HTTPScope, name: bytes) -> str:
    """Lay the lines of one header together, as they mean one list."""
    return b",".join(value for key, value in scope["headers"] if key == name).decode("latin-1")


def _nearest(scope: HTTPScope, name: bytes) -> str:
    """Return what the nearest proxy says: the last value."""
    return _joined(scope, name).rpartition(",")[2].strip()


@lru_cache(maxsize=1_024)
def _address(text: str) -> _Address | None:
    """Read an address, with a port or without, in brackets or not; `None` for what is none."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    # One socket for both families says IPv4 so.
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


@lru_cache(maxsize=8)
def _networks(allowed: tuple[str, ...]) -> Sequence[_Network]:
    return [ip_network(text) for text in allowed]


def _is_in(address: _Address | None, networks: Sequence[_Network]) -> bool:
    return address is not None and any(address in network for network in networks)
