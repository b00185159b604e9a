"""`llm-gateway batch`: have a file of requests answered by a running gateway, and fetch what came of it."""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_TIMEOUT = httpx.Timeout(10.0, read=600.0, write=600.0)
_READ = 1024 * 1024
# The label by which the same file is found again.
_LABEL = "llm-gateway-sha256"
_OVER = frozenset({"completed", "failed", "expired", "cancelled"})
_TAKEN_UP = frozenset({"validating", "in_progress", "finalizing", "completed"})
_PAGE = 100
# Seconds between two looks, at first and later; and for how long a gateway may be away, as while it starts anew.
_LEAST_SECONDS, _MOST_SECONDS = 0.2, 2.0
_AWAY_SECONDS = 120.0
_WRONG_USAGE, _INTERRUPTED = 2, 130


class BatchCommandError(Exception):
    """The batch cannot be made or fetched; the message says why."""


class BatchFiles(Struct, frozen=True):
    """The file of the requests, and where the answers and the errors go."""

    given: Path
    output: Path
    errors: Path


def run(options: argparse.Namespace, url: str) -> int:
    """Run the batch; return 0, 1 where not all of it was answered, 2 for wrong usage, 130 for Ctrl-C."""
    files = _to_files(options)
    for file in (files.output, files.errors):
        if not file.parent.is_dir():
            return _complain(f"{file}: there is no such folder", _WRONG_USAGE)
    headers = {"authorization": f"Bearer {options.api_key}"} if options.api_key else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT, verify=options.trust or True) as client:
            return BatchCommand(client, files, options).run()
    except BatchCommandError as error:
        return _complain(str(error), 1)
    except httpx.InvalidURL as error:
        return _complain(f"{url}: {error}", _WRONG_USAGE)
    except OSError as error:
        return _complain(str(error), 1)
    except KeyboardInterrupt:
        _complain("the batch goes on; the same command waits for it again", _INTERRUPTED)
        return _INTERRUPTED


class BatchCommand:
    """One run: finds the batch of the file or makes it, waits for it, and fetches its files."""

    def __init__(self, client: httpx.Client, files: BatchFiles, options: argparse.Namespace) -> None:
        self._client = client
        self._files = files
        self._window = options.window
        self._endpoint = options.endpoint
        self._is_new = options.again

    def run(self) -> int:
        """Run; return the exit code."""
        digest, endpoint = self._look()
        batch = None if self._is_new else self._find(digest, endpoint)
        if batch is None:
            batch = self._make(digest, endpoint)
        else:
            print(f"{batch['id']} was begun before, and is taken up again", file=sys.stderr)
        batch = self._wait(batch)
        fetched = [self._fetch(batch[name], path) for name, path in self._wanted()]
        for error in (batch["errors"] or {"data": []})["data"]:
            line = f"line {error['line']}: " if error["line"] else ""
            _complain(f"{line}{error['message']} ({error['code']})", 1)
        counts = batch["request_counts"]
        told = f"{batch['id']} is {batch['status']}: {counts['completed']} of {counts['total']} answered"
        print(told + (f", {counts['failed']} failed" if counts["failed"] else ""), *filter(None, fetched), sep="\n  ")
        return 0 if batch["status"] == "completed" and not counts["failed"] else 1

    def _wanted(self) -> tuple[tuple[str, Path], ...]:
        return ("output_file_id", self._files.output), ("error_file_id", self._files.errors)

    def _look(self) -> tuple[str, str]:
        """Return the digest of the file, and the endpoint that it is for."""
        digest, endpoint = hashlib.sha256(), self._endpoint
        with self._files.given.open("rb") as file:
            if endpoint is None:
                endpoint = _endpoint_of(file.readline(), self._files.given)
                file.seek(0)
            while piece := file.read(_READ):
                digest.update(piece)
        return digest.hexdigest(), endpoint

    def _find(self, digest: str, endpoint: str) -> dict[str, Any] | None:
        """Find the newest batch of the same lines that still has, or will have, its answers."""
        after: dict[str, str] = {}
        while True:
            page = self._ask("GET", "/v1/batches", params={"limit": str(_PAGE)} | after)
            for batch in page["data"]:
                is_same = (batch["metadata"] or {}).get(_LABEL) == digest and batch["endpoint"] == endpoint
                if is_same and batch["status"] in _TAKEN_UP and self._is_there(batch):
                    return dict(batch)
            if not page["has_more"]:
                return None
            after = {"after": page["last_id"]}

    def _is_there(self, batch: dict[str, Any]) -> bool:
        """Tell whether the files of a batch that is over are still there."""
        names = [batch[name] for name, _ in self._wanted() if batch[name] is not None]
        return all(self._client.get(f"/v1/files/{name}").is_success for name in names)

    def _make(self, digest: str, endpoint: str) -> dict[str, Any]:
        with self._files.given.open("rb") as file:
            form = {"file": (self._files.given.name, file, "application/jsonl")}
            uploaded = self._ask("POST", "/v1/files", data={"purpose": "batch"}, files=form)
        body = {
            "input_file_id": uploaded["id"],
            "endpoint": endpoint,
            "completion_window": self._window,
            "metadata": {_LABEL: digest},
        }
        return self._ask("POST", "/v1/batches", json=body)

    def _wait(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Show how far the batch is until it is over."""
        seconds = _LEAST_SECONDS
        with _display() as show:
            while batch["status"] not in _OVER:
                show(batch)
                time.sleep(seconds)
                seconds = min(seconds * 1.2, _MOST_SECONDS)
                batch = self._patiently("GET", f"/v1/batches/{batch['id']}")
            show(batch)
        return batch

    def _fetch(self, identity: str | None, path: Path) -> str | None:
        """Write a file of the batch to a path, whole or not at all; return what is to be said of it."""
        if identity is None:
            return None
        part = path.with_name(f".{path.name}.part")
        try:
            with part.open("wb") as file, self._client.stream("GET", f"/v1/files/{identity}/content") as answer:
                if answer.is_error:
                    answer.read()
                    raise BatchCommandError(_reason(answer))
                for piece in answer.iter_bytes():
                    file.write(piece)
            part.replace(path)
        except httpx.HTTPError as error:
            raise BatchCommandError(f"the gateway did not send {identity}: {error}") from error
        finally:
            part.unlink(missing_ok=True)
        return str(path)

    def _patiently(self, method: str, path: str) -> dict[str, Any]:
        """Ask, also while the gateway is away for a while."""
        until = time.monotonic() + _AWAY_SECONDS
        while True:
            try:
                answer = self._client.request(method, path)
                if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR or time.monotonic() > until:
                    return _read(answer)
            except httpx.TransportError as error:
                if time.monotonic() > until:
                    raise BatchCommandError(f"the gateway is away: {error}") from error
            time.sleep(_MOST_SECONDS)

    def _ask(self, method: str, path: str, **asked: Any) -> dict[str, Any]:  # noqa: ANN401 - httpx's own
        try:
            return _read(self._client.request(method, path, **asked))
        except httpx.HTTPError as error:
            raise BatchCommandError(f"there is no gateway at {self._client.base_url}: {error}") from error


def _to_files(options: argparse.Namespace) -> BatchFiles:
    given = Path(options.file)
    output = Path(options.output) if options.output else given.with_name(f"{given.stem}.output.jsonl")
    return BatchFiles(given, output, Path(options.errors) if options.errors else _beside(output))


def _beside(output: Path) -> Path:
    stem = output.name.removesuffix(".jsonl").removesuffix(".output")
    return output.with_name(f"{stem}.errors.jsonl")


def _endpoint_of(line: bytes, path: Path) -> str:
    try:
        return str(json.loads(line)["url"])
    except (ValueError, KeyError, TypeError) as error:
        raise BatchCommandError(f"{path}: its first line is no request with a url; see --endpoint") from error


def _read(answer: httpx.Response) -> dict[str, Any]:
    if answer.is_error:
        raise BatchCommandError(_reason(answer))
    try:
        return dict(answer.json())
    except ValueError as error:
        raise BatchCommandError(f"{answer.url} is no gateway's answer: {error}") from error


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.url} answered {answer.status_code}"


@contextmanager
def _display() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show a bar on a terminal, and nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    failed = TextColumn("{task.fields[failed]}", style="red")
    with Progress(*columns, failed, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("validating", total=None, failed="")

        def show(batch: dict[str, Any]) -> None:
            counts = batch["request_counts"]
            progress.update(
                task,
                description=batch["status"],
                total=counts["total"] or None,
                completed=counts["completed"] + counts["failed"],
                failed=f"{counts['failed']} failed" if counts["failed"] else "",
            )

        yield show


def _complain(message: str, code: int) -> int:
    print(f"llm-gateway: {message}", file=sys.stderr)
    return code
