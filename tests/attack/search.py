"""Attacks that look for cases of which no one has thought: the document's own inputs, and walks of faults at random."""

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx

from tests.attack.shortages import _no_descriptors, _scripted, back
from tests.attack.table import attack
from tests.attack.target import Target
from tests.attack.transport import is_rude
from tests.chaos.row import Row, none_of

# These two change which engines there are, which is no fault.
_LEFT_OUT = "/(load|unload)"
_TYPED = {503, 504, 529}
# To load the document, for the request that is under way when the time is over, and to write the reports.
_GRACE_SECONDS = 90.0
_REPORT_SECONDS = 20.0


@attack(seconds=35.0)
def documented_inputs(target: Target) -> Iterator[Row]:
    """Let schemathesis send what our document allows and what it does not: no answer is an untyped 5xx."""
    yield from documented(target, 25)


def documented(target: Target, seconds: int) -> Iterator[Row]:
    """Run schemathesis for so long, and count the untyped 5xx in its report."""
    if importlib.util.find_spec("schemathesis") is None:
        yield Row("not run: schemathesis is not installed; uv sync --group attack", "", "", holds=True)
        return
    report = target.folder / "report.ndjson"
    seed = target.chance.randrange(2**32)
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{target.service.url}/schema/openapi.json"]
    command += ["--header", f"Authorization: Bearer {target.keys['attacker']}", "--seed", str(seed)]
    command += [
        "--checks",
        "not_a_server_error",
        "--phases",
        "coverage,fuzzing",
        "--no-shrink",
        "--continue-on-failure",
    ]
    command += [
        "--exclude-path-regex",
        _LEFT_OUT,
        "--max-time",
        str(seconds),
        "--request-timeout",
        "20",
        "--output-truncate",
        "false",
    ]
    command += ["--report", "ndjson", "--report-ndjson-path", str(report), "--warnings", "off"]
    ends = end_by_itself(command, target.folder / "schemathesis.txt", seconds + _GRACE_SECONDS)
    if not ends:
        yield Row("schemathesis, to end by itself", f"within {seconds + _GRACE_SECONDS:g} s", "was ended", holds=False)
    asked, failed = _server_errors(report.read_text() if report.exists() else "")
    for request in failed[:5]:
        print(f"       {request}", file=sys.stderr, flush=True)
    said = f"{len(failed)} of {asked}" + (f": {failed[0]}"[:300] if failed else "")
    yield Row("answers of 500, 502 or without a status", "0", said, asked > 0 and not failed)


def end_by_itself(command: Sequence[str], output: Path, seconds: float) -> bool:
    """Run a command in the folder of its output; say whether it ends within so long. One that does not is ended.

    It is interrupted at first, so that it writes its reports, and killed where that does not help.
    """
    with output.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, cwd=output.parent)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_REPORT_SECONDS)
            return False
        finally:
            process.kill()
            process.wait()
    return True


def _server_errors(report: str) -> tuple[int, list[str]]:
    """Count the answers of a report of schemathesis, and write the requests whose answer was a fault of ours."""
    asked, failed = 0, []
    # The last line of one that was killed may be torn.
    for line in report.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        for method, uri, body, status in _interactions(json.loads(line)):
            asked += 1
            if status >= 500 and status not in _TYPED:
                failed.append(f"{status} {method} {re.sub(r'^http://[^/]*', '', uri)} {body}"[:400])
    return asked, failed


def _interactions(value: object) -> Iterator[tuple[str, str, object, int]]:
    """Find the pairs of request and response in an event, wherever they are."""
    if isinstance(value, dict):
        request, response = value.get("request"), value.get("response")
        if isinstance(request, dict) and isinstance(response, dict) and "status_code" in response:
            uri, body = str(request.get("uri", "")), request.get("body", request.get("encoded_body"))
            yield str(request.get("method")), uri, body, int(response["status_code"])
            return
        for part in value.values():
            yield from _interactions(part)
    elif isinstance(value, list):
        for part in value:
            yield from _interactions(part)


class _Walk:
    """One walk at random over requests and faults; `steps` is what it did, `wrong` what it saw that must not be."""

    def __init__(self, target: Target) -> None:
        self.target, self.steps, self.wrong = target, [], []
        self._held = []

    def step(self) -> None:
        """Do one thing that is drawn."""
        things: dict[Callable[[], None], int] = {
            self.ask: 12,
            self.stream: 6,
            self.abort: 6,
            self.question: 6,
            self.cancel: 3,
            self.reload: 3,
            self.engine_dies: 2,
            self.engine_stops: 1,
            self.shortage: 1,
            self.worker_dies: 1,
        }
        [thing] = self.target.chance.choices([*things], [*things.values()])
        self.steps.append(thing.__name__)
        try:
            thing()
        except (httpx.HTTPError, OSError, EOFError) as error:
            if "worker_dies" not in self.steps[-8:]:
                self.wrong.append(f"{type(error).__name__} at {' '.join(self.steps[-8:])}")

    def ask(self) -> None:
        """Ask any model a question whose answer is known, or long, or a fault."""
        chance = self.target.chance
        model = chance.choice(["echo", "scripted", "tiny", "nothing"])
        fault = chance.choice([None, None, "raise", "bug", "cut"])
        script = {
            "script": {"texts": ["x "] * chance.randrange(1, 30), "delay": 0.005, "after": 1}
            | ({"fault": fault} if fault else {})
        }
        prompt = json.dumps(script) if model == "scripted" else "a b c " * chance.randrange(1, 40)
        body = {
            "model": model,
            "prompt": prompt,
            "max_new_tokens": chance.randrange(1, 40),
            "seed": chance.randrange(5),
        }
        answers = self.target.many(chance.randrange(1, 12), lambda _: self.target.post("/v1/generate", body))
        # An error without a type of its own, and a stream that is cut, are what these two scripts ask for.
        expected = fault in ("bug", "cut", "raise") and model == "scripted"
        self._note(answers, body, expected=expected)

    def stream(self) -> None:
        """Read a stream to its end."""
        chance = self.target.chance
        body = {"model": chance.choice(["echo", "tiny", "scripted"]), "prompt": "a b c d e", "stream": True}
        answer = self.target.post("/v1/generate", body | {"max_new_tokens": chance.randrange(1, 60)})
        if answer.status_code == 200 and "[DONE]" not in answer.text and '"error"' not in answer.text:
            self.wrong.append(f"a stream without an end: {body}")

    def abort(self) -> None:
        """Leave in the middle."""
        chance = self.target.chance
        body = {
            "model": chance.choice(["echo", "tiny", "scripted"]),
            "prompt": "a b c " * 30,
            "stream": chance.random() < 0.5,
        }
        connection = self.target.hold(json.dumps(body).encode())
        time.sleep(chance.uniform(0, 0.1))
        connection.reset()

    def question(self) -> None:
        """Ask about tokens."""
        path = self.target.chance.choice(["/tokenize", "/detokenize", "/apply-template", "/v1/messages/count_tokens"])
        body = {
            "model": "tiny",
            "prompt": "é" * 500,
            "tokens": [5] * 500,
            "messages": [{"role": "user", "content": "a"}],
        }
        wanted = {"/tokenize": ["model", "prompt"], "/detokenize": ["model", "tokens"]}.get(path, ["model", "messages"])
        own = {name: body[name] for name in wanted} | ({"max_tokens": 5} if "count" in path else {})
        self._note(self.target.many(4, lambda _: self.target.post(path, own)), own)

    def cancel(self) -> None:
        """End whatever is in flight, as an administrator."""
        headers = {"authorization": f"Bearer {self.target.keys['attacker']}"}
        listed = httpx.get(f"{self.target.service.url}/v1/requests", headers=headers, timeout=10).json()
        for request in next((value for value in listed.values() if isinstance(value, list)), [])[:3]:
            httpx.delete(f"{self.target.service.url}/v1/requests/{request['id']}", headers=headers, timeout=10)

    def reload(self) -> None:
        """Read the configuration again."""
        self.target.service.process.send_signal(signal.SIGHUP)

    def engine_dies(self) -> None:
        """Kill an engine."""
        os.kill(_scripted(self.target), signal.SIGKILL)
        self._back("scripted")

    def engine_stops(self) -> None:
        """Stop an engine."""
        os.kill(_scripted(self.target), signal.SIGSTOP)
        self._back("scripted")

    def shortage(self) -> None:
        """Kill an engine while there is no descriptor."""
        with _no_descriptors(self.target.main):
            os.kill(_scripted(self.target), signal.SIGKILL)
            time.sleep(1.0)
        self._back("scripted")

    def worker_dies(self) -> None:
        """Kill the worker."""
        self.target.interrupt(signal.SIGKILL)
        self._back("echo")

    def _back(self, model: str) -> None:
        row = back(self.target, model)
        if not row.holds:
            self.wrong.append(f"{row.what}: {row.seen} after {' '.join(self.steps[-8:])}")

    def _note(self, answers: list[object], body: object, *, expected: bool = False) -> None:
        rude = [answer for answer in answers if is_rude(answer)]
        if rude and not expected and "worker_dies" not in self.steps[-3:]:
            told = getattr(rude[0], "text", repr(rude[0]))
            self.wrong.append(f"{getattr(rude[0], 'status_code', 0)} {told[:100]} for {json.dumps(body)[:100]}")


@attack(away=12.0, seconds=40.0)  # with a back-off after several deaths
def walk(target: Target) -> Iterator[Row]:
    """Do requests, deaths, reloads, aborts and shortages in any order; the seed repeats them."""
    walked = _Walk(target)
    while target.goes_on and not walked.wrong:
        walked.step()
    yield none_of("what must not be: " + "; ".join(walked.wrong)[:400], len(walked.wrong), len(walked.steps))
    yield back(target, "tiny")
