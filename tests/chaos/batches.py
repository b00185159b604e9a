"""A batch that runs while clients ask, and what they notice of it."""

import asyncio
import json
import tempfile
from pathlib import Path

import httpx

from tests.chaos.client import Result, client, offer
from tests.chaos.row import Row, at_least, at_most, none_of, percentile
from tests.support.service import Service

_PROMPT = "The capital of France is"
# A third of what the built-in model does on two cores, so that there are gaps between requests.
_RATE = 0.5
_SECONDS = 30.0
_ROUNDS = 2
_LINES = 2_000


async def batches() -> list[Row]:
    """Ask the built-in model alone and beside a batch, in turns, and compare the slowest requests."""
    with tempfile.TemporaryDirectory() as folder:
        store = {"LLM_GATEWAY__STORE__FILE": str(Path(folder, "store.db")), "LLM_GATEWAY__GENERATE__MAX_LENGTH": "40"}
        with Service(ENGINE="hf", LOG_LEVEL="WARNING", ready=False, **store) as service:
            service.wait_for("/readyz", seconds=180)
            async with client(service.url) as asker:
                await offer(lambda: asker.ask(_PROMPT), _RATE, 6.0)
                alone, beside = list[Result](), list[Result]()
                for _ in range(_ROUNDS):
                    alone += await offer(lambda: asker.ask(_PROMPT), _RATE, _SECONDS)
                    batch = await asyncio.to_thread(_begin, service)
                    beside += await offer(lambda: asker.ask(_PROMPT), _RATE, _SECONDS)
                    answered = await asyncio.to_thread(_end, service, batch)
    return [
        none_of("requests beside a batch that failed", sum(each.end != "whole" for each in beside), len(beside)),
        at_most("their median, of alone", _at(beside, 0.5) / _at(alone, 0.5), 1.1, "x"),
        at_most("their p99, of alone", _at(beside, 0.99) / _at(alone, 0.99), 1.1, "x"),
        at_least("lines that were answered between them", answered, 1),
    ]


def _begin(service: Service) -> str:
    """Make a batch that is longer than the trial."""
    lines = (
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/completions",
            "body": {"prompt": f"{_PROMPT} {number}", "max_tokens": 32},
        }
        for number in range(_LINES)
    )
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    given = _read(service.client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", content)}))
    asked = {"input_file_id": given["id"], "endpoint": "/v1/completions", "completion_window": "1h"}
    return str(_read(service.client.post("/v1/batches", json=asked))["id"])


def _end(service: Service, batch: str) -> int:
    """Cancel the batch; return how many of its lines were answered."""
    _read(service.client.post(f"/v1/batches/{batch}/cancel"))
    return int(_read(service.client.get(f"/v1/batches/{batch}"))["request_counts"]["completed"])


def _read(answer: httpx.Response) -> dict:
    answer.raise_for_status()
    return dict(answer.json())


def _at(results: list[Result], share: float) -> float:
    return percentile([result.seconds for result in results], share)
