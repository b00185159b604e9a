"""The real service in a process of its own: granian on a free port, with its log and its exit code."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

# Nothing of the machine's own configuration reaches a service under test.
_FOREIGN = ("LLM_GATEWAY", "OTEL_", "ENGINE", "HOST", "PORT", "WORKERS", "MODEL_NAME", "DEVICE", "MAX_LENGTH")
_FOREIGN += ("TEMPERATURE", "LOG_LEVEL", "METRICS_ENABLED")
# The cache is the one that tests in this process use: models are converted and kernels built once for all.
_FOREIGN += ("XDG_CACHE_HOME",)

# Scrapes within a second share one rendering.
_SCRAPE_SECONDS = 1.1


def total(scrape: str, name: str, **labels: str) -> float:
    """Add up the samples of `name` in a scrape that have these labels."""
    found = 0.0
    for line in scrape.splitlines():
        key, _, value = line.rpartition(" ")
        if key.split("{")[0] == name and all(f'{label}="{wanted}"' in key for label, wanted in labels.items()):
            found += float(value)
    return found


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """`llm-gateway serve` as a child process; a context that ends it and what it started."""

    def __init__(  # noqa: PLR0913 - as a service can be started in many ways
        self,
        *arguments: str,
        ready: bool = True,
        cwd: Path | None = None,
        leads: bool = False,
        stdout: int | None = None,
        stderr: int = subprocess.STDOUT,
        before: tuple[str, ...] = (),
        **environment: str,
    ) -> None:
        self.port = int(environment.get("PORT") or free_port())
        self._arguments = arguments
        self._environment = {"ENGINE": "echo", "PORT": str(self.port)} | environment
        self._ready = ready
        self._cwd = cwd
        self._stdout, self._stderr = stdout, stderr  # descriptors; without them both go to the log
        self._leads = leads  # a process group of its own, as a shell makes one
        self._before = before  # a command that runs the service's, as `nice` does
        self._scraped = 0.0
        self._folder = tempfile.TemporaryDirectory(prefix="gateway-test-")
        self._log = Path(self._folder.name, "log")
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*self._before, sys.executable, "-m", "gateway", "serve", *self._arguments],
                stdout=log if self._stdout is None else self._stdout,
                stderr=self._stderr,
                stdin=subprocess.DEVNULL,
                cwd=self._cwd or self._folder.name,
                env=inherited | self._environment,
                process_group=0 if self._leads else None,
            )
        self.client = httpx.Client(base_url=self.url, timeout=60, event_hooks={"request": [self._note_scrape]})
        try:
            if self._ready:
                self.wait_for("/readyz")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.kept, self.kept_output = self.lines, self.output
        self._folder.cleanup()

    def wait_for(self, path: str, status: int = 200, seconds: float = 90.0) -> httpx.Response:
        """Ask until the answer is `status`; raise with the log when the process ends or the time is over."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"the service ended with {self.process.returncode}:\n{self.output}")
            try:
                answer = self.client.get(path)
                if answer.status_code == status:
                    return answer
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise TimeoutError(f"{path} did not answer {status} within {seconds} s:\n{self.output}")

    def generate(self, **body) -> httpx.Response:
        """Post to `/v1/generate`."""
        return self.client.post("/v1/generate", json=body)

    def metric(self, name: str, **labels: str) -> float:
        """Add up the samples of `name` that have these labels, in a scrape of this moment."""
        return total(self.scrape(), name, **labels)

    def scrape(self) -> str:
        """Scrape, and see that it is no older scrape's copy."""
        time.sleep(max(0.0, self._scraped + _SCRAPE_SECONDS - time.monotonic()))
        return self.client.get("/metrics").text

    def _note_scrape(self, request: httpx.Request) -> None:
        if request.url.path.endswith("/metrics"):
            self._scraped = time.monotonic()

    @property
    def output(self) -> str:
        """All that the service has printed."""
        return self._log.read_text(errors="replace")

    @property
    def lines(self) -> list[dict]:
        """The JSON lines of the log."""
        return [json.loads(line) for line in self.output.split("\n") if line.startswith("{")]

    def requests(self) -> list[dict]:
        """The log's lines that tell of requests."""
        return [line for line in self.lines if line.get("event") == "request"]
