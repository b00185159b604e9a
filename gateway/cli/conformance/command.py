"""`llm-gateway conformance`: try a server, print the table, and write what was asked for."""

import argparse
import asyncio
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec

from gateway import __version__
from gateway.cli.conformance.peer import Peer, PeerError
from gateway.cli.conformance.report import breaks_must, show
from gateway.cli.conformance.rule import Finding
from gateway.cli.conformance.rules import RULES
from gateway.cli.conformance.run import try_rules

GROUPS = tuple(dict.fromkeys(each.group for each in RULES))
_WRONG_USAGE = 2


def run(options: argparse.Namespace, url: str) -> int:
    """Try the server at `url`; return 0, 1 where it breaks a must or there is none, 2 for wrong usage."""
    if wrong := _wrong(options, url):
        return _complain(wrong, _WRONG_USAGE)
    transport = None
    if options.trust is not None:
        transport = httpx.AsyncHTTPTransport(verify=options.trust, limits=httpx.Limits(max_connections=None))
    peer = Peer(url, options.api_key, options.model or "", options.timeout, transport)
    try:
        findings = asyncio.run(_try(peer, options.groups or GROUPS))
    except PeerError as error:
        return _complain(str(error), 1)
    show(peer, findings)
    if options.json:
        try:
            Path(options.json).write_bytes(msgspec.json.format(as_json(peer, findings)) + b"\n")
        except OSError as error:
            return _complain(str(error), 1)
    return int(any(map(breaks_must, findings)))


def _wrong(options: argparse.Namespace, url: str) -> str | None:
    """Find what is wrong with the flags, before the first request and not after the last."""
    if unknown := set(options.groups) - set(GROUPS):
        return f"there is no group {min(unknown)}; there are {', '.join(GROUPS)}"
    if not _is_http(url):
        return f"{url} is no http URL"
    if not 0 < options.timeout < float("inf"):
        return f"--timeout {options.timeout:g} is out of bounds"
    if options.json and not Path(options.json).parent.is_dir():
        return f"{options.json}: there is no such folder"
    return None


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without an address, a port above 65535
        return False


async def _try(peer: Peer, groups: tuple[str, ...]) -> list[Finding]:
    async with peer:
        return [found async for found in try_rules(peer, (each for each in RULES if each.group in groups))]


def as_json(peer: Peer, findings: list[Finding]) -> bytes:
    """Encode what was found, for a program that reads it."""
    found = [
        {
            "group": each.rule.group,
            "level": each.rule.level,
            "rule": each.rule.name,
            "outcome": each.outcome,
            "detail": each.detail,
            "seconds": round(each.seconds, 3),
        }
        for each in findings
    ]
    return msgspec.json.encode({"version": __version__, "url": peer.url, "model": peer.model, "findings": found})


def _complain(message: str, code: int) -> int:
    print(f"llm-gateway: {message}", file=sys.stderr)
    return code
