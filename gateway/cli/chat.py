"""The terminal's side: chat with a running gateway, and list its models."""

import json
import sys
import time
from collections.abc import Iterator, Mapping

import httpx
from rich.console import Console

_TIMEOUT = httpx.Timeout(10.0, read=600.0)
_COLUMNS = {
    "model": "id",
    "engine": "engine",
    "loaded": "loaded",
    "context": "context_window",
    "device": "device",
    "dtype": "dtype",
    "note": "note",
}


class Conversation:
    """A streaming chat over `/v1/generate`; every turn sends the whole conversation."""

    def __init__(self, url: str, key: str | None, system: str | None, asked: Mapping[str, object]) -> None:
        self._url = url
        self._headers = _bearer(key)
        self._asked = {key: value for key, value in asked.items() if value is not None}
        self._messages = [{"role": "system", "content": system}] if system else []
        self._console = Console(highlight=False)
        self._ended = "stop"

    def run(self) -> int:
        """Talk until the input ends or says /exit; return the exit code."""
        try:
            with httpx.Client(base_url=self._url, headers=self._headers, timeout=_TIMEOUT) as self._client:
                model = self._wait_until_ready()
                if sys.stdin.isatty():
                    self._console.print(f"{self._asked.get('model', model)}; /exit leaves, Ctrl-C stops an answer")
                for said in _lines(self._console):
                    self._turn(said)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
            return _complain(f"there is no gateway at {self._url}: {error}")
        except ChatError as error:
            return _complain(str(error))
        return 0

    def _wait_until_ready(self) -> str:
        """Wait while the gateway starts; return the name of its first model."""
        with self._console.status("") as status:
            while (health := self._client.get("/v1/health").json())["status"] == "starting":
                status.update(f"{health['detail']} ({health['uptime']:.0f} s)")
                time.sleep(0.2)
        if health["status"] != "ready":
            raise ChatError(f"the gateway is {health['status']}: {health['detail']}")
        return str(health["model"])

    def _turn(self, said: str) -> None:
        """Say one thing and show the answer; what was answered before a Ctrl-C stays in the conversation."""
        self._messages.append({"role": "user", "content": said})
        self._ended, texts = "stop", list[str]()
        try:
            for text in self._stream(self._asked | {"messages": self._messages, "stream": True}):
                self._console.out(text, end="")
                texts.append(text)
        except KeyboardInterrupt:
            self._ended = "Ctrl-C"
        self._console.out("")
        if self._ended != "stop":
            print(f"(stopped: {self._ended})", file=sys.stderr, flush=True)
        self._messages.append({"role": "assistant", "content": "".join(texts)})

    def _stream(self, body: dict[str, object]) -> Iterator[str]:
        with self._client.stream("POST", "/v1/generate", json=body) as response:
            if response.is_error:
                raise ChatError(json.loads(response.read())["error"]["message"])
            for line in _split(response.iter_text()):
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                frame = json.loads(line.removeprefix("data: "))
                if "error" in frame:
                    raise ChatError(frame["error"]["message"])
                self._ended = frame.get("finish_reason", self._ended)
                yield frame["text"]


class ChatError(Exception):
    """The gateway said no; the message is its own."""


def show_models(url: str, key: str | None) -> int:
    """Print the models of the gateway at `url`; return the exit code."""
    try:
        answer = httpx.get(f"{url}/v1/models", headers=_bearer(key), timeout=_TIMEOUT)
        if answer.is_error:
            return _complain(answer.json()["error"]["message"])
        models = answer.json()["data"]
        rows = [list(_COLUMNS), *([_shown(model[key]) for key in _COLUMNS.values()] for model in models)]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        return _complain(f"cannot list the models of {url}: {error}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _bearer(key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def _shown(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _lines(console: Console) -> Iterator[str]:
    """Yield what is typed, or what is piped in, line by line, until it ends or a Ctrl-C comes."""
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            said = console.input(prompt).strip()
        except (EOFError, KeyboardInterrupt):
            if prompt:
                console.out("")
            return
        if said in ("/exit", "/quit"):
            return
        if said:
            yield said


def _split(texts: Iterator[str]) -> Iterator[str]:
    """Split at line feeds only: JSON may hold other characters that Python takes for line ends."""
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        yield from lines


def _complain(message: str) -> int:
    print(f"llm-gateway: {message}", file=sys.stderr)
    return 1
