"""The service that is attacked: its engines and keys, the neighbour that watches it, and what an attack left behind."""

import json
import os
import random
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from gateway.auth import KeyFile, Scope
from gateway.limits import Quota
from gateway.linux import resident_bytes
from tests.attack.seen import Seen
from tests.support.observe import eventually
from tests.support.probe import python_path
from tests.support.processes import descendants, open_files, worker
from tests.support.rawhttp import JSON, RawHTTP, request
from tests.support.service import Service
from tests.support.tiny_models import make_tiny

ROOT = Path(__file__).resolve().parent.parent.parent
MIB = 2**20
INODES = 256
_ATTACKER_NICE = 10
# There is no TLS here; a context for each client would take the machine's time, some 20 ms each.
_UNUSED = ssl.create_default_context()
_LIMITED = Quota(requests_per_minute=20, tokens_per_minute=2_000, concurrent=2)
_ENGINES: dict[str, dict[str, object]] = {
    "ACTOR": {"PLUGIN": "scripted", "ISOLATED": "true", "HANG_SECONDS": 3, "SETTINGS__PLACES": 4},
    "TINY": {"PLUGIN": "hf", "HANG_SECONDS": 5, "SETTINGS__SERVED_NAME": "tiny", "SETTINGS__THREADS": 1},
}


class Target:
    """A running service with three engines (echo, scripted, a tiny model) and five keys, under watch.

    The key of the guest may ask models only; the others are for everything. `chance` is drawn from the seed, `until` is
    when the attack should end (monotonic seconds).
    """

    def __init__(self, service: Service, keys: dict[str, str], chance: random.Random, folder: Path) -> None:
        self.service, self.keys, self.chance, self.folder = service, keys, chance, folder
        self.until = 0.0
        self.interruptions: list[float] = []
        self._watch = subprocess.Popen(
            [sys.executable, "-m", "tests.attack.watch", str(service.port), keys["neighbour"], str(self.main)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    @property
    def main(self) -> int:
        """The process id of the supervisor."""
        return int(self.service.process.pid)

    @property
    def worker(self) -> int:
        """The process id of the worker."""
        return worker(self.main)

    @property
    def goes_on(self) -> bool:
        """Whether the attack's time is not over."""
        return time.monotonic() < self.until

    def post(
        self, path: str, body: object, key: str = "attacker", seconds: float = 60.0, **headers: str
    ) -> httpx.Response:
        """Post a body, as JSON where it is not bytes already, on a connection of its own."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"authorization": f"Bearer {self.keys[key]}", "content-type": "application/json"} | headers
        return httpx.post(self.service.url + path, content=content, headers=sent, timeout=seconds, verify=_UNUSED)

    def send(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """Send a request of any kind on a connection of its own, without a key but that in its `headers`."""
        return httpx.request(method, self.service.url + path, timeout=60.0, verify=_UNUSED, **sent)

    def many(self, count: int, work: Any, at_once: int = 20) -> list[Any]:
        """Call `work(number)` so many times, some at once; an exception of the client is a result.

        An attacker has a machine of its own: here its threads stand back behind the service and its neighbour.
        """

        def guarded(number: int) -> Any:
            try:
                return work(number)
            except (httpx.HTTPError, OSError) as error:
                return error

        with ThreadPoolExecutor(at_once, initializer=_stand_back) as pool:
            return list(pool.map(guarded, range(count)))

    def hold(self, body: bytes, path: str = "/v1/generate", key: str = "attacker") -> RawHTTP:
        """Send a request on a raw connection; the answer is the caller's to read or to leave."""
        bearer = f"Authorization: Bearer {self.keys[key]}"
        head = request("POST", path, JSON, f"Content-Length: {len(body)}", bearer)
        return RawHTTP(self.service.port).send(head, body)

    def interrupt(self, number: signal.Signals) -> int:
        """Send the worker a signal that it answers nothing after, note when, and return its process id."""
        pid = self.worker
        self.interruptions.append(time.monotonic())
        os.kill(pid, number)
        return pid

    def begin(self) -> None:
        """Let the neighbour begin to watch."""
        self.interruptions = []
        self._tell("begin")

    def end(self) -> Seen:
        """Return what the neighbour saw since `begin`."""
        self._tell("end")
        assert self._watch.stdout is not None
        return msgspec.json.decode(self._watch.stdout.readline(), type=Seen)

    def probe(self) -> dict[str, int]:
        """Count what the worker holds."""
        headers = {"authorization": f"Bearer {self.keys['neighbour']}"}
        return dict(self.service.client.get("/probe", headers=headers).json())

    def holdings(self) -> dict[str, float]:
        """Count what an attack may leave behind: descriptors, processes, folders, requests that run, memory."""
        self.service.client.get("/livez")
        probed = self.probe()
        return {
            "running": probed["running"],
            "tasks": probed["tasks"],
            "threads": probed["threads"],
            "descriptors": open_files(self.worker) + open_files(self.main),
            "processes": len(descendants(self.main)),
            "entries of the temp folder": sum(1 for _ in (self.folder / "tmp").iterdir()),
            "MiB": (resident_bytes(self.worker) or 0) / MIB,
        }

    def close(self) -> None:
        """End the neighbour."""
        self._watch.kill()
        self._watch.wait()

    def _tell(self, line: str) -> None:
        assert self._watch.stdin is not None
        self._watch.stdin.write(line + "\n")
        self._watch.stdin.flush()


def _stand_back() -> None:
    """Give this thread alone a lower priority."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _ATTACKER_NICE)


@contextmanager
def target(chance: random.Random, **settings: str) -> Iterator[Target]:
    """Start the service, with `settings` added to its environment, and the neighbour; end both."""
    with tempfile.TemporaryDirectory(prefix="attack-") as name, ExitStack() as limits:
        folder = Path(name)
        (folder / "tmp").mkdir()
        limits.enter_context(_small(folder / "tmp"))
        keys, texts = KeyFile(folder / "keys.db"), {}
        every = frozenset({Scope.INFER, Scope.METRICS, Scope.ADMIN})
        for who, quota in {
            "neighbour": None,
            "attacker": None,
            "limited": _LIMITED,
            "single": Quota(concurrent=1),
        }.items():
            _, texts[who] = keys.create(who, quota=quota, scopes=every)
        _, texts["guest"] = keys.create("guest")
        with Service(**_environment(folder, keys) | settings, ready=False) as service:
            service.wait_for("/readyz", seconds=120)
            for model in ("echo", "scripted", "tiny"):
                eventually(lambda model=model: _answers(service, texts["neighbour"], model), 120)
            found = Target(service, texts, chance, folder)
            try:
                yield found
            finally:
                found.close()


@contextmanager
def _small(folder: Path) -> Iterator[None]:
    """Mount a file system of a few files over a folder, where this user may: an attack can fill that."""
    options = f"size=1m,nr_inodes={INODES}"
    made = subprocess.run(
        ["/usr/bin/mount", "-t", "tmpfs", "-o", options, "attack", str(folder)], check=False, capture_output=True
    )
    try:
        yield
    finally:
        if made.returncode == 0:
            subprocess.run(["/usr/bin/umount", "-l", str(folder)], check=False)


def _environment(folder: Path, keys: KeyFile) -> dict[str, str]:
    made = {
        "LOG_LEVEL": "WARNING",
        "TMPDIR": str(folder / "tmp"),
        "LLM_GATEWAY__AUTH__FILE": str(keys.path),
    }
    made["PYTHONPATH"] = python_path(folder / "probe-1.0.dist-info")
    settings = _ENGINES | {"TINY": _ENGINES["TINY"] | {"SETTINGS__MODEL": str(make_tiny("llama", folder / "tiny"))}}
    for engine, values in settings.items():
        made |= {f"LLM_GATEWAY__ENGINES__{engine}__{key}": str(value) for key, value in values.items()}
    return made


def _answers(service: Service, key: str, model: str) -> bool:
    body = {"prompt": "ready?", "model": model, "max_new_tokens": 1}
    answer = service.client.post("/v1/generate", json=body, headers={"authorization": f"Bearer {key}"})
    return answer.status_code == 200
