"""A service with every kind of engine, and traffic of every kind on it until it is stopped."""

import contextlib
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx

from gateway.auth import KeyFile, Scope
from gateway.limits import Quota
from tests.support.batches import Lines
from tests.support.service import Service
from tests.support.tiny_adapters import make_adapter
from tests.support.tiny_models import make_tiny

_FLOWS = 6
_LEAVE_SECONDS = 0.3
_DYING_SECONDS = 8.0
# The built-in model has few places and little room, so that requests wait; the store and the cache are soon full.
_CONFIG = """
[engines.default]
plugin = "hf"
settings = {{ served_name = "small", places = 2, cache_tokens = 2048 }}

[engines.tuned]
plugin = "hf"
settings = {{ model = "{folder}/tiny", served_name = "tiny", threads = 1, adapters = {{ tuned = "{folder}/adapter" }} }}

[engines.vectors]
plugin = "hf"
load = "demand"
idle_seconds = 2
settings = {{ model = "builtin-embedding", served_name = "vectors" }}

[engines.remote]
plugin = "openai"
settings = {{ base_url = "{upstream}/v1", models = {{ remote = "echo" }} }}

[engines.refusing]
plugin = "scripted"
settings = {{ model = "refusing", script = {{ fault = "raise", code = "upstream_unavailable", after = -1 }} }}

[engines.breaking]
plugin = "scripted"
settings = {{ model = "breaking", script = {{ fault = "bug", after = 2 }} }}

[engines.dying]
plugin = "scripted"
isolated = true
settings = {{ model = "dying" }}

[engines.twin]
plugin = "scripted"
settings = {{ model = "twin" }}

[routes.either]
engines = ["refusing", "remote"]

[routes.watched]
engines = ["remote"]
shadow = {{ engine = "twin", share = 1.0 }}

[admission]
waiters_per_place = 1
queue_seconds = 2

[auth]
file = "{folder}/keys.db"

[cache]
max_bytes = 4096

[store]
file = "{folder}/store.db"
max_bytes = 8192

[telemetry]
aliases = ["vllm"]
"""
_SHAPE = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "schema": {
            "type": "object",
            "properties": {"yes": {"type": "boolean"}},
            "required": ["yes"],
            "additionalProperties": False,
        },
    },
}


class LiveLoad:
    """Sends requests of every kind, in turn, on several threads; counts the statuses of each kind."""

    def __init__(self, service: Service, keys: dict[str, str]) -> None:
        self.keys = keys
        self.statuses: dict[str, Counter[int]] = {}
        self._client = httpx.Client(base_url=service.url, timeout=60, headers=_bearer(keys["all"]))
        self._stopped = threading.Event()
        self._numbers = itertools.count()
        self._deadly = threading.Lock()
        self._kinds: tuple[Callable[[], int], ...] = (
            self.generate,
            self.stream,
            self.leave,
            self.complete,
            self.chat,
            self.message,
            self.respond,
            self.adapt,
            self.embed,
            self.tokenize,
            self.batch,
            self.repeat,
            self.fall_back,
            self.shadow,
            self.fail,
            self.break_off,
            self.exceed,
            self.mistake,
            self.use_a_wrong_key,
            self.use_a_limited_key,
            self.die,
        )

    @property
    def kinds(self) -> list[str]:
        """The names of all kinds."""
        return [kind.__name__ for kind in self._kinds]

    def run(self, flow: int) -> None:
        """Send one kind after the other, each flow in an order of its own, until it is stopped."""
        chance = random.Random(flow)  # noqa: S311 - any order will do
        while not self._stopped.is_set():
            for kind in chance.sample(self._kinds, len(self._kinds)):
                if self._stopped.is_set():
                    return
                try:
                    status = kind()
                except httpx.HTTPError as error:
                    status = 599 if isinstance(error, httpx.TransportError) else 500
                self.statuses.setdefault(kind.__name__, Counter())[status] += 1

    def stop(self) -> None:
        """Let what runs be the last."""
        self._stopped.set()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def generate(self) -> int:
        """Ask in the service's own dialect."""
        return self._post("/v1/generate", prompt=self._text(), max_new_tokens=12)

    def stream(self) -> int:
        """Read a stream to its end."""
        return self._post("/v1/generate", prompt=self._text(), max_new_tokens=24, stream=True)

    def leave(self) -> int:
        """Leave in the middle of a stream."""
        body = {"prompt": self._text(), "max_new_tokens": 400, "stream": True}
        with self._client.stream("POST", "/v1/generate", json=body) as answer, contextlib.suppress(StopIteration):
            next(answer.iter_bytes())
            time.sleep(_LEAVE_SECONDS)
        return answer.status_code

    def complete(self) -> int:
        """Ask for two answers to one prompt, with the probabilities of their tokens."""
        return self._post("/v1/completions", model="small", prompt=self._text(), max_tokens=8, n=2, logprobs=1)

    def chat(self) -> int:
        """Ask for an object."""
        return self._post(
            "/v1/chat/completions", model="small", messages=self._said(), max_tokens=24, response_format=_SHAPE
        )

    def message(self) -> int:
        """Ask in Anthropic's dialect, of the server behind the gateway."""
        return self._post("/v1/messages", model="remote", messages=self._said(), max_tokens=12, stream=True)

    def respond(self) -> int:
        """Have a response stored."""
        return self._post("/v1/responses", model="remote", input=self._text())

    def adapt(self) -> int:
        """Ask an adapter."""
        return self._post("/v1/completions", model="tuned", prompt="a b", max_tokens=4)

    def embed(self) -> int:
        """Ask for a vector, of a model that is loaded for it."""
        return self._post("/v1/embeddings", model="vectors", input=self._text())

    def tokenize(self) -> int:
        """Ask about tokens."""
        return self._post("/tokenize", model="small", prompt=self._text())

    def batch(self) -> int:
        """Begin a batch of two lines."""
        lines = Lines("/v1/completions").add_all({"model": "remote", "prompt": self._text()} for _ in range(2))
        form = {"purpose": "batch"}
        given = self._client.post("/v1/files", data=form, files={"file": ("lines.jsonl", lines.content)})
        if given.status_code != 200:
            return given.status_code
        return self._post(
            "/v1/batches", input_file_id=given.json()["id"], endpoint="/v1/completions", completion_window="24h"
        )

    def repeat(self) -> int:
        """Ask what was asked before."""
        return self._post("/v1/generate", model="remote", prompt="again", temperature=0)

    def fall_back(self) -> int:
        """Ask a route whose first engine refuses."""
        return self._post("/v1/generate", model="either", prompt=self._text())

    def shadow(self) -> int:
        """Ask a route that has a shadow."""
        return self._post("/v1/generate", model="watched", prompt=self._text())

    def fail(self) -> int:
        """Ask a model behind which nothing answers."""
        return self._post("/v1/generate", model="refusing", prompt=self._text())

    def break_off(self) -> int:
        """Ask a model that breaks in the middle of its stream."""
        return self._post("/v1/generate", model="breaking", prompt=self._text(), stream=True)

    def exceed(self) -> int:
        """Ask for more than there is time for."""
        body = {"prompt": self._text(), "max_new_tokens": 1000, "stream": True}
        return self._client.post("/v1/generate", json=body, headers={"x-request-timeout": "0.5"}).status_code

    def mistake(self) -> int:
        """Send what is refused."""
        return self._post("/v1/chat/completions", model="small", messages=[])

    def use_a_wrong_key(self) -> int:
        """Ask with a key that is none."""
        return self._client.get("/v1/models", headers=_bearer("gw-none")).status_code

    def use_a_limited_key(self) -> int:
        """Ask with a key that has next to nothing."""
        body = {"model": "remote", "prompt": self._text()}
        return self._client.post("/v1/generate", json=body, headers=_bearer(self.keys["limited"])).status_code

    def die(self) -> int:
        """End an engine's process, now and then."""
        if not self._deadly.acquire(blocking=False):
            return 0
        try:
            status = self._post("/v1/generate", model="dying", prompt='{"script": {"fault": "exit", "after": 1}}')
            self._stopped.wait(_DYING_SECONDS)
            return status
        finally:
            self._deadly.release()

    def _post(self, path: str, **body: object) -> int:
        return self._client.post(path, json=body).status_code

    def _text(self) -> str:
        return f"Tell me something about the number {next(self._numbers)}."

    def _said(self) -> list[dict[str, str]]:
        return [{"role": "user", "content": self._text()}]


@contextlib.contextmanager
def live_load(folder: Path) -> Iterator[tuple[Service, LiveLoad]]:
    """Start a gateway with a second one behind it, and traffic on it, which ends with the context."""
    keys = KeyFile(folder / "keys.db")
    texts = {
        "all": keys.create("all", scopes=frozenset({Scope.INFER, Scope.METRICS, Scope.ADMIN}))[1],
        "limited": keys.create("limited", quota=Quota(requests_per_minute=2))[1],
    }
    with ExitStack() as stack:
        upstream = stack.enter_context(Service())
        make_adapter(make_tiny("llama", folder / "tiny"), folder / "adapter")
        file = folder / "gateway.toml"
        file.write_text(_CONFIG.format(upstream=upstream.url, folder=folder))
        service = stack.enter_context(Service("--config", str(file), ENGINE="", ready=False))
        service.wait_for("/readyz", seconds=180)
        load = LiveLoad(service, texts)
        stack.callback(load.close)
        threads = stack.enter_context(ThreadPoolExecutor(_FLOWS))
        stack.callback(load.stop)
        running = [threads.submit(load.run, flow) for flow in range(_FLOWS)]
        yield service, load
        load.stop()
        for each in running:
            each.result()


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}
