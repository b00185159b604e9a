"""The terminal's side: chat with a running gateway, and list its models."""

import json
import sys
import time
from collections.abc import Iterator

import httpx
from rich.console import Console
from rich.table import Table

_TIMEOUT = httpx.Timeout(10.0, read=600.0)


class Conversation:
    """A streaming chat over `/v1/generate`; every turn sends the whole conversation."""

    def __init__(self, url: str, model: str | None, system: str | None, temperature: float | None) -> None:
        self._url = url
        self._asked = {"model": model, "temperature": temperature}
        self._messages = [{"role": "system", "content": system}] if system else []
        self._console = Console(highlight=False)

    def run(self) -> int:
        """Talk until the input ends or says /exit; return the exit code."""
        try:
            with httpx.Client(base_url=self._url, timeout=_TIMEOUT) as self._client:
                self._wait_until_ready()
                for said in _lines(self._console):
                    self._turn(said)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
            return _complain(f"there is no gateway at {self._url}: {error}")
        except ChatError as error:
            return _complain(str(error))
        return 0

    def _wait_until_ready(self) -> None:
        with self._console.status("") as status:
            while (health := self._client.get("/v1/health").json())["status"] == "starting":
                status.update(f"{health['detail']} ({health['uptime']:.0f} s)")
                time.sleep(0.2)
        if health["status"] != "ready":
            raise ChatError(f"the gateway is {health['status']}: {health['detail']}")

    def _turn(self, said: str) -> None:
        self._messages.append({"role": "user", "content": said})
        asked = {key: value for key, value in self._asked.items() if value is not None}
        answer = ""
        for text in self._stream(asked | {"messages": self._messages, "stream": True}):
            self._console.out(text, end="")
            answer += text
        self._console.out("")
        self._messages.append({"role": "assistant", "content": answer})

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
                yield frame["text"]


class ChatError(Exception):
    """The gateway said no; the message is its own."""


def show_models(url: str) -> int:
    """Print the models of the gateway at `url`; return the exit code."""
    try:
        models = httpx.get(f"{url}/v1/models", timeout=_TIMEOUT).raise_for_status().json()["data"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
        return _complain(f"cannot list the models of {url}: {error}")
    table = Table("model", "engine", "loaded", "context", "device", "dtype", "note")
    for model in models:
        loaded = "yes" if model["loaded"] else "no"
        context = str(model["context_window"])
        table.add_row(model["id"], model["engine"], loaded, context, model["device"], model["dtype"], model["note"])
    Console().print(table)
    return 0


def _lines(console: Console) -> Iterator[str]:
    """Yield what is typed, or what is piped in, line by line."""
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            said = console.input(prompt).strip()
        except EOFError:
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
