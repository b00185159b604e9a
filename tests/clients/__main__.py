"""Run all clients, or those named, against one service with the built-in model; exit 1 where a check failed."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from gateway.auth import KeyFile, Scope
from gateway.limits import Quota
from tests.clients.table import CLIENTS, Client, NotInstalled
from tests.support.observe import eventually
from tests.support.service import Service
from tests.support.tiny_encoders import logits_of, make_cross_encoder

# What the machine has set up for real services is not for this one.
_FOREIGN = ("OPENAI_", "ANTHROPIC_", "LITELLM_", "LLM_", "LANGCHAIN_", "LANGSMITH_", "PYTHONPATH", "VIRTUAL_ENV")
_MODELS = 4
_PAIRS = "tiny-cross-encoder"
_QUERY = "How far is the moon?"
# As many as tell an order from chance; the tiny model, which is random, has one of its own.
_DOCUMENTS = (
    "Bananas are yellow.",
    "The moon is 384,400 km away.",
    "The river flows to the sea.",
    "Cheese is made of milk.",
    "A day on Mars has 24 hours and 37 minutes.",
)
# Seconds for one script: it ends one that hangs, on a machine however busy.
_PATIENCE = 1_200


class Outcome(Struct):
    """What came of one client."""

    passed: int = 0
    failed: int = 0
    not_run: str = ""

    @property
    def verdict(self) -> str:
        """The last column of the table."""
        if self.not_run:
            return f"not run: {self.not_run}"
        return "ok" if self.passed and not self.failed else "FAILED"


def main() -> int:
    """Run them and print the table."""
    names = sys.argv[1:] or list(CLIENTS)
    if unknown := set(names) - set(CLIENTS):
        print(f"no such client: {', '.join(sorted(unknown))}; there are {', '.join(CLIENTS)}", file=sys.stderr)
        return 2
    table = Table("client", "package", "passed", "failed", "")
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="gateway-clients-") as folder:
        keys = KeyFile(Path(folder, "keys.db"))
        environments = {name: _admit(name, keys) for name in names}
        pairs = make_cross_encoder("bert", Path(folder, _PAIRS))
        ranking = _ranking(pairs)
        with _service(keys, pairs) as service:
            service.wait_for("/readyz", seconds=180)
            eventually(lambda: _loaded(service, environments[names[0]]["GATEWAY_KEY"]) == _MODELS, 180)
            for name in names:
                environment = environments[name] | {"GATEWAY_URL": service.url, "GATEWAY_PAIRS": ranking}
                outcome = _run(name, CLIENTS[name], Path(folder, name), environment)
                outcomes.append(outcome)
                table.add_row(name, CLIENTS[name].package, str(outcome.passed), str(outcome.failed), outcome.verdict)
    Console(width=140).print(table)
    return 0 if all(outcome.verdict == "ok" for outcome in outcomes) else 1


def _ranking(pairs: Path) -> str:
    """Write what the model of pairs is asked, and how transformers by itself scores that."""
    scores = [float(logits_of(pairs, _QUERY, document).sigmoid()) for document in _DOCUMENTS]
    return json.dumps({"model": _PAIRS, "query": _QUERY, "documents": _DOCUMENTS, "scores": scores})


def _service(keys: KeyFile, pairs: Path) -> Service:
    """Start both built-in models, a tiny cross-encoder, and an engine that follows scripts, for what no model does."""
    return Service(
        ENGINE="hf",
        LLM_GATEWAY__AUTH__FILE=str(keys.path),
        LLM_GATEWAY__ENGINES__ACTOR__PLUGIN="scripted",
        LLM_GATEWAY__ENGINES__VECTORS__PLUGIN="hf",
        LLM_GATEWAY__ENGINES__VECTORS__SETTINGS__MODEL="builtin-embedding",
        LLM_GATEWAY__ENGINES__PAIRS__PLUGIN="hf",
        LLM_GATEWAY__ENGINES__PAIRS__SETTINGS__MODEL=str(pairs),
        LLM_GATEWAY__ENGINES__PAIRS__SETTINGS__DTYPE="float32",
        ready=False,
    )


def _loaded(service: Service, key: str) -> int:
    """Count the models that are loaded."""
    answer = service.client.get("/v1/models", headers={"authorization": f"Bearer {key}"})
    return len(answer.json()["data"])


def _admit(name: str, keys: KeyFile) -> dict[str, str]:
    """Make the keys of a client: one for everything, and one that after 20 requests has one more every 3 s."""
    _, key = keys.create(name, scopes=frozenset({Scope.INFER, Scope.METRICS}))
    _, poor = keys.create(f"{name}-poor", quota=Quota(requests_per_minute=20))
    return {"GATEWAY_KEY": key, "GATEWAY_POOR_KEY": poor}


def _run(name: str, client: Client, folder: Path, environment: dict[str, str]) -> Outcome:
    print(f"{name} ({client.package})", flush=True)
    folder.mkdir()
    try:
        command = client.install(folder)
    except NotInstalled as error:
        return Outcome(not_run=str(error))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    own = inherited | environment | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    try:
        ended = subprocess.run(
            command, env=own, cwd=folder, stdout=subprocess.PIPE, text=True, check=False, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        print(f"FAILED: not done within {_PATIENCE} s")
        return Outcome(failed=1)
    told = [line for line in ended.stdout.splitlines() if line.startswith(("ok ", "FAILED "))]
    print(*told, sep="\n", flush=True)
    failed = sum(line.startswith("FAILED") for line in told)
    # A script that ended early has said nothing about the rest.
    return Outcome(len(told) - failed, failed or int(ended.returncode != 0))


if __name__ == "__main__":
    sys.exit(main())
