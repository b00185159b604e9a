"""Tries the rules, one after another."""

import time
from collections.abc import AsyncIterator, Iterable

import httpx

from gateway.cli.conformance.peer import Peer
from gateway.cli.conformance.rule import Absent, Finding, Found, Refused, RuleBroken, WireRule


async def try_rules(peer: Peer, rules: Iterable[WireRule]) -> AsyncIterator[Finding]:
    """Try the rules in their order; what a server does wrong is a finding, whatever it is."""
    for each in rules:
        began = time.monotonic()
        outcome, detail = await _try(peer, each)
        yield Finding(each, outcome, detail, time.monotonic() - began)


async def _try(peer: Peer, each: WireRule) -> tuple[Found, str]:
    outcome: Found = "broken"
    try:
        return "holds", await each.trial(peer) or ""
    except RuleBroken as error:
        detail = str(error)
    except Refused as error:
        outcome, detail = "refused", str(error)
    except Absent as error:
        outcome, detail = "absent", f"there is not: {error}"
    except httpx.TimeoutException:
        detail = "no answer came in time"
    except httpx.HTTPError as error:
        detail = f"the connection was lost: {str(error) or type(error).__name__}"
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # A rule reads an answer as its clients do: where it cannot be read so, they could not either.
        detail = f"an answer cannot be read: {type(error).__name__}: {error}"
    return outcome, detail
