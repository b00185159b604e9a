"""The terminal's side: chat with a running gateway, and list its models."""

import json
import signal
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol

import httpx
from rich.console import Console

from gateway.cli.abilities import to_table

_TIMEOUT = httpx.Timeout(10.0, read=600.0)
# What comes of a server that is away, or is no gateway.
_FOREIGN = (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError)
# A model may write what moves a terminal's cursor or rings its bell.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\N{REPLACEMENT CHARACTER}") | {
    9: "\t",
    10: "\n",
    13: None,
}
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
        self._is_answering = False

    def run(self) -> int:
        """Talk until the input ends or says /exit; return the exit code."""
        try:
            with httpx.Client(base_url=self._url, headers=self._headers, timeout=_TIMEOUT) as self._client:
                model = self._wait_until_ready()
                if sys.stdin.isatty():
                    self._talk(f"{self._asked.get('model', model)}; /exit leaves, Ctrl-C stops an answer")
                else:
                    for said in _said(_Piped()):
                        self._turn(said)
        except ChatError as error:
            return _complain(str(error))
        except _FOREIGN as error:
            return _complain(f"there is no gateway at {self._url}: {error}")
        return 0

    def _talk(self, welcome: str) -> None:
        """Talk on a terminal: an error ends a turn and not the chat."""
        from gateway.cli.editor import Editor  # noqa: PLC0415 - for terminals only

        self._console.print(welcome)
        with self._interruptible():
            for said in _said(Editor()):
                try:
                    self._turn(said)
                except ChatError as error:
                    _complain(str(error))
                except _FOREIGN as error:
                    _complain(f"the gateway at {self._url} did not answer: {error}")

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let Ctrl-C end an answer and nothing else, whenever it comes."""

        def interrupt(*_: object) -> None:
            if self._is_answering:
                self._is_answering = False
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

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
        """Send a message and show the answer; the part before a Ctrl-C is kept, a turn that fails is not."""
        question = {"role": "user", "content": said}
        self._ended, texts = "stop", list[str]()
        try:
            with closing(self._stream([*self._messages, question])) as stream:
                self._is_answering = True
                for text in stream:
                    self._console.out(text.translate(_CONTROLS), end="")
                    texts.append(text)
                self._is_answering = False
        except KeyboardInterrupt:
            self._ended = "Ctrl-C"
        finally:
            self._is_answering = False
            if texts or self._ended != "stop":
                self._console.out("")
        if self._ended != "stop":
            print(f"(stopped: {self._ended})", file=sys.stderr, flush=True)
        if texts or self._ended == "stop":
            self._messages += [question, {"role": "assistant", "content": "".join(texts)}]

    def _stream(self, messages: list[dict[str, str]]) -> Generator[str, None, None]:
        body = self._asked | {"messages": messages, "stream": True}
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


def show_models(url: str, key: str | None, *, as_table: bool = False) -> int:
    """Print the models of the gateway at `url`, or as a table what each can do; return the exit code."""
    try:
        answer = httpx.get(f"{url}/v1/models", headers=_bearer(key), timeout=_TIMEOUT)
        if answer.is_error:
            return _complain(answer.json()["error"]["message"])
        models = answer.json()["data"]
        if as_table:
            print(to_table({_column(model, models): model["capabilities"] for model in models}), end="")
            return 0
        rows = [list(_COLUMNS), *([_shown(model[key]) for key in _COLUMNS.values()] for model in models)]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        return _complain(f"cannot list the models of {url}: {error}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _column(model: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> str:
    """Name a model's engine, and the model too where the engine has several."""
    engine = str(model["engine"])
    return engine if sum(other["engine"] == engine for other in models) == 1 else f"{engine}: {model['id']}"


def _bearer(key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def _shown(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


class Lines(Protocol):
    """The input of a chat."""

    def read(self) -> str | None:
        """Return the next message; `None` at the end of the input."""


class _Piped:
    """Lines that a pipe or a file holds."""

    def read(self) -> str | None:
        """Return the next line; `None` at the end."""
        return sys.stdin.readline() or None


def _said(lines: Lines) -> Iterator[str]:
    """Yield each message, until the input ends or says /exit; nothing for an empty line."""
    while (said := lines.read()) is not None:
        said = said.strip()
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
