"""A real Prometheus that scrapes a service under test, where the machine has one."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, NamedTuple

import httpx
import pytest

START_SECONDS = 30
# What deploy/compose has Prometheus evaluate.
RULES = tuple(sorted(map(str, (Path(__file__).parents[2] / "deploy/prometheus").glob("*.yaml"))))


class Sample(NamedTuple):
    """One series of an answer."""

    labels: dict[str, str]
    value: float


class Prometheus:
    """A running Prometheus at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, promql: str) -> list[Sample]:
        """Evaluate an expression now. Raise `ValueError` with Prometheus's own words where it is refused."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": promql}, timeout=10, trust_env=False).json()
        if answer["status"] != "success":
            raise ValueError(answer["error"])
        return [Sample(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]

    def exemplars(self, promql: str) -> list[dict[str, str]]:
        """Return the labels of the exemplars that the series in an expression had in the last hour."""
        now = time.time()
        asked: dict[str, str | float] = {"query": promql, "start": now - 3600, "end": now + 60}
        answer = httpx.get(f"{self.url}/api/v1/query_exemplars", params=asked, timeout=10, trust_env=False).json()
        if answer["status"] != "success":
            raise ValueError(answer["error"])
        return [exemplar["labels"] for series in answer["data"] for exemplar in series["exemplars"]]

    def wait_for(self, promql: str, seconds: float = 30) -> list[Sample]:
        """Evaluate an expression until it has an answer."""
        deadline = time.monotonic() + seconds
        while not (samples := self.query(promql)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing in {seconds} s for {promql}")
            time.sleep(0.2)
        return samples


def path_of(program: str) -> str:
    """Find `prometheus` or `promtool`; skip the test where the machine has none."""
    return shutil.which(program) or pytest.skip(f"no {program} on PATH; Debian's package `prometheus` brings it")


def promtool(*arguments: str | Path, text: str = "") -> str:
    """Run promtool on files, or on a text at its standard input, and return what it says; it must find no fault."""
    command = [path_of("promtool"), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def job(target: str, **settings: object) -> dict[str, object]:
    """Write the job that scrapes `target` (host and port)."""
    return {"job_name": target, "static_configs": [{"targets": [target]}], **settings}


@contextlib.contextmanager
def scraping(*jobs: dict[str, object], rules: Sequence[str] = ()) -> Iterator[Prometheus]:
    """Run a Prometheus that does its jobs and the rules of files each second; it takes five of them until the first."""
    program = path_of("prometheus")
    with TemporaryDirectory() as folder:
        config = Path(folder, "prometheus.json")
        times = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config.write_text(json.dumps({"global": times, "rule_files": rules, "scrape_configs": jobs}))
        address = _free_address()
        flags = [f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"]
        flags.append("--enable-feature=exemplar-storage")
        with Path(folder, "log").open("w") as log, _started([program, *flags], log) as process:
            _wait_until_ready(process, f"http://{address}/-/ready", Path(log.name))
            yield Prometheus(f"http://{address}")


@contextlib.contextmanager
def _started(command: list[str], log: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, trust_env=False).is_success:
                return
        time.sleep(0.05)
    raise RuntimeError(f"Prometheus did not start: {log.read_text()[-2000:]}")


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
