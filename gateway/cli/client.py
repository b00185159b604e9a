"""A running gateway, as the commands that look at one ask it."""

import ssl
import sys
from types import TracebackType
from typing import Any, Self

import httpx

TIMEOUT = httpx.Timeout(10.0, read=600.0)
# What comes of a server that is away, or is no gateway.
FOREIGN = (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError)
# A model, or a name that a client chose, may hold what moves a terminal's cursor or rings its bell.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\N{REPLACEMENT CHARACTER}") | {
    9: "\t",
    10: "\n",
    13: None,
}


class GatewaySaysNo(Exception):
    """The gateway refuses; the message is its own."""


class GatewayClient:
    """Asks one gateway, which `trust` decides to believe; a context that holds its connections."""

    def __init__(self, url: str, key: str | None, trust: ssl.SSLContext | None = None) -> None:
        self.url = url
        self._trust = trust or True
        self._headers = bearer(key)

    def __enter__(self) -> Self:
        self.http = httpx.Client(base_url=self.url, headers=self._headers, timeout=TIMEOUT, verify=self._trust)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def ask(self, path: str, method: str = "GET") -> Any:  # noqa: ANN401 - JSON
        """Return what a path answers, as JSON. Raise `GatewaySaysNo`, or one of `FOREIGN`."""
        answer = self.http.request(method, path)
        if answer.is_error:
            raise GatewaySaysNo(reason(answer))
        return answer.json()

    def away(self, error: Exception) -> str:
        """Say in one line that no gateway answers, and why."""
        return f"there is no gateway at {self.url}: {error}"


def bearer(key: str | None) -> dict[str, str]:
    """Return the header that carries a key."""
    return {"authorization": f"Bearer {key}"} if key else {}


def reason(answer: httpx.Response) -> str:
    """Return the message of an error. Raise one of `FOREIGN` where that is no gateway's."""
    return str(answer.json()["error"]["message"])


def printable(text: str) -> str:
    """Replace the characters that a terminal would act on."""
    return text.translate(_CONTROLS)


def complain(message: str) -> int:
    """Print a line about what went wrong; return the exit code."""
    print(f"llm-gateway: {message}", file=sys.stderr, flush=True)
    return 1
