"""`llm-gateway chat`: a streaming chat with a running gateway, on a terminal or through a pipe."""

import json
import signal
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Protocol
from urllib.parse import quote

import httpx
from rich.console import Console

from gateway.cli.answer_view import view
from gateway.cli.client import FOREIGN, GatewayClient, GatewaySaysNo, complain
from gateway.cli.dialogue import ChatCommands, Dialogue, Unsettable, unescaped

_IGNORED = "x-ignored-params"


class Conversation:
    """A streaming chat over `/v1/generate`; every turn sends the whole conversation.

    `asked` are the parameters of its requests, the model among them. On a terminal answers are drawn as Markdown,
    unless it `is_plain`; `history` names the file that keeps what was typed, for the next chat.
    """

    def __init__(
        self,
        client: GatewayClient,
        system: str | None,
        asked: Mapping[str, object],
        *,
        is_plain: bool = False,
        history: str | None = None,
    ) -> None:
        self._gateway = client
        self._dialogue = Dialogue([], {key: value for key, value in asked.items() if value is not None})
        self._dialogue.system = system or ""
        self._console = Console(highlight=False)
        self._is_plain = is_plain
        self._history = history
        self._first = ""
        self._last: Mapping[str, Any] = {}
        self._is_answering = False

    def run(self) -> int:
        """Talk until the input ends or says /exit; return the exit code."""
        try:
            with self._gateway:
                self._first = self._wait_until_ready()
                if sys.stdin.isatty():
                    self._talk()
                else:
                    for said in _said(_Piped()):
                        self._turn(said, is_plain=True)
        except GatewaySaysNo as error:
            return complain(str(error))
        except FOREIGN as error:
            return complain(self._gateway.away(error))
        except OSError as error:  # of the file of the history
            return complain(str(error))
        return 0

    def _talk(self) -> None:
        """Talk on a terminal: an error ends a turn and not the chat."""
        from gateway.cli.editor import Editor  # noqa: PLC0415 - for terminals only

        commands = ChatCommands(lambda name: self._gateway.ask(f"/v1/models/{quote(name)}"))
        editor = Editor([f"/{name}" for name in commands.known], self._history)
        self._console.print(
            f"{self._dialogue.asked.get('model', self._first)}; /exit leaves, /help shows more, Ctrl-C stops an answer",
            markup=False,
        )
        with self._interruptible():
            for said in _said(editor):
                try:
                    shown = commands.obey(self._dialogue, said)
                    if shown is None:
                        self._turn(unescaped(said), is_plain=self._is_plain)
                        self._tell_speed()
                    else:
                        self._console.print(shown, style="dim", markup=False)
                except (GatewaySaysNo, Unsettable) as error:
                    complain(str(error))
                except FOREIGN as error:
                    complain(f"the gateway at {self._gateway.url} did not answer: {error}")

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
            while (health := self._gateway.http.get("/v1/health").json())["status"] == "starting":
                status.update(f"{health['detail']} ({health['uptime']:.0f} s)")
                time.sleep(0.2)
        if health["status"] != "ready":
            raise GatewaySaysNo(f"the gateway is {health['status']}: {health['detail']}")
        return str(health["model"])

    def _turn(self, said: str, *, is_plain: bool) -> None:
        """Send a message and show the answer; the part before a Ctrl-C is kept, a turn that fails is not."""
        question = {"role": "user", "content": said}
        texts, ended = list[str](), "stop"
        self._last = {}
        try:
            stream = self._stream([*self._dialogue.messages, question])
            with closing(stream), view(self._console, is_plain=is_plain) as shown:
                self._is_answering = True
                for text in stream:
                    shown.add(text)
                    texts.append(text)
                self._is_answering = False
            ended = self._last.get("finish_reason", "stop")
        except KeyboardInterrupt:
            ended = "Ctrl-C"
        finally:
            self._is_answering = False
        if ended != "stop":
            print(f"(stopped: {ended})", file=sys.stderr, flush=True)
        if texts or ended == "stop":
            self._dialogue.messages += [question, {"role": "assistant", "content": "".join(texts)}]

    def _stream(self, messages: list[dict[str, str]]) -> Generator[str, None, None]:
        body = self._dialogue.asked | {"messages": messages, "stream": True}
        with self._gateway.http.stream("POST", "/v1/generate", json=body) as response:
            if response.is_error:
                raise GatewaySaysNo(json.loads(response.read())["error"]["message"])
            self._check_taken(response)
            for line in _split(response.iter_text()):
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                frame = json.loads(line.removeprefix("data: "))
                if "error" in frame:
                    raise GatewaySaysNo(frame["error"]["message"])
                if "finish_reason" in frame:
                    self._last = frame
                yield frame["text"]

    def _check_taken(self, response: httpx.Response) -> None:
        """Refuse an answer that leaves a parameter out of account, and take that back."""
        ignored = [name for name in response.headers.get(_IGNORED, "").split(",") if name]
        for name in ignored:
            self._dialogue.asked.pop(name, None)
        if ignored:
            raise GatewaySaysNo(f"the gateway has no parameter {', '.join(ignored)}; it is unset again")

    def _tell_speed(self) -> None:
        """Say how fast an answer came, as the gateway measured it; nothing of one that was broken off."""
        if self._last and self._console.is_terminal:
            tokens, timings = self._last["usage"]["completion_tokens"], self._last["timings"]
            first = timings["queue"] + timings["prefill"]
            speed = f", {tokens / timings['decode']:.1f} tokens/s" if timings["decode"] else ""
            self._console.print(f"({tokens} tokens{speed}, the first after {first:.2f} s)", style="dim")


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
