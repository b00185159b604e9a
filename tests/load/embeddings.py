"""Hold vectors and scores against those of sentence-transformers, and measure both on the same texts in one run.

    python -m tests.load.embeddings [--texts 200] [--rounds 5]

The library is in an environment of its own, with this one's torch and transformers. Rounds alternate, so that a machine
which becomes slower is slower for both, and the best of each counts: all that disturbs makes them longer.
"""

import argparse
import asyncio
import base64
import json
import random
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from math import hypot
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.cli.bench.prompts import PromptSource
from gateway.engine import Completion, EmbedRequest, ScoreRequest
from gateway_hf import build
from gateway_hf.compute.placement import choose_threads
from gateway_hf.loading.builtin_embedding import locate
from gateway_hf.settings import Settings
from tests.support.service import Service
from tests.support.tiny_encoders import make_cross_encoder

LIBRARY = "sentence-transformers==6.2.0"
BATCHES = (8, 32, 128)
DTYPES = ("float32", "bfloat16")
# What is promised: cosine distance, difference of scores, and times as fast.
DISTANCE, DIFFERENCE, RATIO = 1e-4, 1e-4, 1.5
# fastembed, a library for the same without torch, brings no model: 0.9.1 says "Could not load model" without the Hub.
NOT_RUN = ("fastembed", "not run: it downloads its models where it is used, and fails without the Hub", True)
QUERY = "What is the capital of France?"
_FOLDER = Path(__file__).resolve().parent


class Library:
    """The library, in its process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, do: str, **asked: object) -> object:
        """Return the answer to one command."""
        self.tell({"do": do} | asked)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the library's process has ended; its last words are above")
        return json.loads(line)

    def tell(self, command: dict[str, object]) -> None:
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()


@contextmanager
def library(**said: object) -> Iterator[Library]:
    """Start the library in an environment of its own."""
    same = [f"{name}=={version(name)}" for name in ("torch", "transformers", "tokenizers")]
    packages = [word for package in (LIBRARY, *same) for word in ("--with", package)]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = ["uvx", "--python", python, *packages, "python", str(_FOLDER / "sentence_peer.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        found = Library(process)
        found.tell(said)
        yield found
    finally:
        process.stdin.close()
        process.wait(60)


def make_texts(count: int) -> list[str]:
    """Make texts of 5 to 150 words, the same ones each time."""
    chance = random.Random(7)  # noqa: S311 - no secret
    return [PromptSource(number, chance.randint(5, 150)).text(0) for number in range(count)]


async def measure(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str, bool]]:
    """Compare and time; return the rows of the table: what, how much, and whether it is as promised."""
    texts = make_texts(options.texts)
    vectors, pairs = str(locate()), str(make_cross_encoder("bert", folder / "pairs"))
    threads = choose_threads(Settings())
    with library(vectors=vectors, pairs=pairs, texts=texts, query=QUERY, threads=threads) as peer:
        print(peer.ask("version"), file=sys.stderr)
        rows = [_row("largest cosine distance, float32", await _distance(peer, vectors, texts), DISTANCE)]
        rows.append(_row("largest difference of scores", await _difference(peer, pairs, texts), DIFFERENCE))
        for dtype in DTYPES:
            rows += await _race(peer, vectors, texts, dtype, options.rounds)
    return iter([*rows, _told(NOT_RUN)])


def _row(what: str, seen: float, most: float) -> tuple[str, str, bool]:
    return _told((what, f"{seen:.1e}, {most:g} at most", seen <= most))


def _told(row: tuple[str, str, bool]) -> tuple[str, str, bool]:
    """Say a row as soon as it is known, and return it."""
    print(*row, sep=" | ", file=sys.stderr, flush=True)
    return row


async def _distance(peer: Library, folder: str, texts: list[str]) -> float:
    """Return the largest cosine distance of a text's two vectors, in float32."""
    theirs = [array("f", base64.b64decode(each)) for each in peer.ask("vectors")]
    async with build(Settings(model=folder, dtype="float32")) as engine:
        made = await engine.embed(_request(texts))
    ours = [array("f", vector) for vector in made.vectors]
    return max(1 - _cosine(one, other) for one, other in zip(ours, theirs, strict=True))


async def _difference(peer: Library, folder: str, texts: list[str]) -> float:
    """Return the largest difference of a pair's two scores, in float32."""
    asked = ScoreRequest(
        id="", model="", queries=(Completion(QUERY),), documents=tuple(map(Completion, texts)), truncate=1 << 30
    )
    async with build(Settings(model=folder, dtype="float32")) as engine:
        ours = [array("f", row)[0] for row in (await engine.score(asked)).rows]
    return max(abs(one - other) for one, other in zip(ours, peer.ask("scores"), strict=True))


async def _race(peer: Library, folder: str, texts: list[str], dtype: str, rounds: int) -> list[tuple[str, str, bool]]:
    """Time both by turns, the library with the batch size that is its best, the service over HTTP beside the engine."""
    first = {batch: peer.ask("seconds", dtype=dtype, batch=batch) for batch in BATCHES}
    batch = min(first, key=first.__getitem__)
    theirs, ours, http = [first[batch]], [], []
    setting = "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__"
    with Service(ENGINE="hf", MODEL_NAME="builtin-embedding", **{f"{setting}DTYPE": dtype}) as service:
        body = {"input": texts, "encoding_format": "base64"}
        async with build(Settings(model=folder, dtype=dtype)) as engine:
            for _ in range(rounds):
                theirs.append(peer.ask("seconds", dtype=dtype, batch=batch))
                began = time.perf_counter()
                await engine.embed(_request(texts))
                ours.append(time.perf_counter() - began)
                began = time.perf_counter()
                service.client.post("/v1/embeddings", json=body, timeout=60).raise_for_status()
                http.append(time.perf_counter() - began)
    count = len(texts)
    told = f"{count / min(theirs):.0f} texts a second (batches of {batch})"
    rows = [(f"{dtype}: sentence-transformers", told, True)]
    for name, seconds in (("the engine", min(ours)), ("the service over HTTP", min(http))):
        ratio = min(theirs) / seconds
        said = f"{count / seconds:.0f} texts a second, {ratio:.2f} times the library's; {RATIO:g} at least"
        rows.append((f"{dtype}: {name}", said, ratio >= RATIO))
    return [_told(row) for row in rows]


def _request(texts: list[str]) -> EmbedRequest:
    return EmbedRequest(id="", model="", inputs=tuple(map(Completion, texts)), truncate=1 << 30)


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (hypot(*one) * hypot(*other))


def main() -> int:
    """Measure, print the table, and return 1 where a promise does not hold."""
    parser = argparse.ArgumentParser(prog="just embeddings", description=__doc__)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embeddings-") as folder:
        rows = list(asyncio.run(measure(options, Path(folder))))
    table = Table("what", "seen", "")
    for what, seen, holds in rows:
        table.add_row(what, seen, "ok" if holds else "FAILED")
    Console(width=120).print(table)
    return 0 if all(holds for _, _, holds in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
