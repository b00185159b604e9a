"""The view of an innocent neighbour, in a process of its own: `python -m tests.attack.watch PORT KEY MAIN`.

After the line `begin` it probes, asks and weighs the worker until the line `end`, and prints what it saw as JSON: each
answer with the monotonic second at which its request began, and the seconds that it took.
"""

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable

from gateway.linux import resident_bytes
from tests.support.processes import worker

_MIB = 2**20
# Longer than it may take until a worker that hangs is replaced.
_PATIENCE = 60.0


class Watch:
    """Three threads, each with a connection of its own; what each sees is kept from `begin` on."""

    def __init__(self, port: int, key: str, main: int) -> None:
        self._port, self._key, self._main = port, key, main
        self._number = 0
        self.begin()
        for look, pause in ((self._probe, 0.01), (self._ask, 0.1), (self._weigh, 0.05)):
            threading.Thread(target=_keep, args=(look, pause), daemon=True).start()

    def begin(self) -> None:
        """Forget what was seen."""
        self._alive: list[tuple[float, float]] = []
        self._answers: list[tuple[float, float]] = []
        self._weights: list[float] = []
        self._wrong: list[str] = []
        self._lost: list[float] = []
        self._pid = worker(self._main)

    def seen(self) -> dict[str, object]:
        """Give probes, answers, the worker's MiB, wrong answers, and the seconds of requests whose connection broke."""
        return {
            "alive": self._alive,
            "answers": self._answers,
            "weights": self._weights,
            "wrong": self._wrong,
            "lost": self._lost,
        }

    def _probe(self) -> None:
        alive, began = self._alive, time.monotonic()
        status, _ = self._send("alive", "GET", "/livez")
        if status == 200:
            alive.append((began, time.monotonic() - began))

    def _ask(self) -> None:
        self._number += 1
        answers, wrong, began = self._answers, self._wrong, time.monotonic()
        text = f"the canary sings song {self._number}"
        body = json.dumps({"prompt": text, "model": "echo", "return_full_text": False})
        status, told = self._send("ask", "POST", "/v1/generate", body)
        if status == 0:
            return
        if status != 200 or json.loads(told)["generated_text"].strip() != text:
            wrong.append(f"{status} {told[:200].decode(errors='replace')}")
        else:
            answers.append((began, time.monotonic() - began))

    def _weigh(self) -> None:
        weight = resident_bytes(self._pid)
        if weight:
            self._weights.append(weight / _MIB)
        else:
            self._pid = worker(self._main)

    def _send(self, line: str, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        """Send on this thread's connection; the status is 0 where there was no answer."""
        held = vars(_connections).setdefault(line, http.client.HTTPConnection("127.0.0.1", self._port, _PATIENCE))
        headers = {"authorization": f"Bearer {self._key}", "cache-control": "no-store"}
        lost, began = self._lost, time.monotonic()
        try:
            held.request(method, path, body, headers | ({"content-type": "application/json"} if body else {}))
            answer = held.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            held.close()
            lost.append(time.monotonic() - began)
            return 0, b""


_connections = threading.local()


def _keep(look: Callable[[], None], pause: float) -> None:
    while True:
        look()
        time.sleep(pause)


def main() -> None:
    """Obey the lines of standard input until it ends."""
    watch = Watch(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    for line in sys.stdin:
        if line.strip() == "begin":
            watch.begin()
        else:
            print(json.dumps(watch.seen()), flush=True)


if __name__ == "__main__":
    main()
