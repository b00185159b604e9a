"""Runs each server with the weights that it reads, by turns."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from gateway_hf.compute.placement import choose_threads
from gateway_hf.settings import Settings
from tests.load.peers import servers, weights
from tests.load.peers.report import Finding
from tests.load.peers.samples import Asks, Load, measure
from tests.load.peers.servers import HttpServer
from tests.load.peers.table import BUILTIN, ENVIRONMENTS, OURS, Rival, llama_server
from tests.support.service import free_port

# Tokens of a place: random words have some 150, chats at most 250, and answers are short.
_PLACE = 512
_PEER = Path(__file__).with_name("openvino_peer.py")


def tools() -> Path:
    """Return the user's folder for environments and weights, which stay for the next time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "llm-gateway-tools" / "peers"


class Rounds(Struct):
    """What each server is asked: prompts by the name of their set, and how much of them."""

    model: str
    sets: dict[str, list[str]]
    load: Load
    folder: Path

    def run(self, rival: Rival) -> Finding:
        """Start a server, measure it, and end it; a reason in the finding says why there is nothing else."""
        try:
            if rival.weights == "no guesses":
                start, resident, levels = servers.own_engine(self._own_settings(rival), self.sets, self.load)
                return Finding(rival, start, resident, levels)
            begun = time.monotonic()
            with self._started(rival) as (server, pid):
                start = time.monotonic() - begun
                found = Finding(rival, start)
                for name, prompts in self.sets.items():
                    found.levels[name] = asyncio.run(measure(server, prompts, self.load, rival.most))
                found.resident = servers.resident(pid)
                return found
        except Exception as error:  # noqa: BLE001 - what stops one server does not stop the others
            return Finding(rival, reason=str(error).strip().splitlines()[0] if str(error).strip() else repr(error))

    def prepare(self, rival: Rival) -> None:
        """Install a server and write its weights; raise `NotInstalled`. This is no part of its start."""
        if rival.peer == OURS:
            return
        ENVIRONMENTS[rival.peer].install(tools() / rival.peer)
        self._weights(rival)

    def _weights(self, rival: Rival) -> Path:
        if rival.weights == "folder":
            return weights.folder_of(self.model, tools() / "models")
        if self.model == BUILTIN:
            return weights.gguf_file(rival.weights, tools() / "models")
        writer = tools() / "openvino-export"
        ENVIRONMENTS["openvino-export"].install(writer)
        folder = weights.folder_of(self.model, tools() / "models")
        return weights.openvino_folder(folder, rival.weights, writer / "bin" / "python", tools() / "models")

    def _own_settings(self, rival: Rival) -> dict[str, object]:
        model = self.model if self.model == BUILTIN else str(weights.folder_of(self.model, tools() / "models"))
        own: dict[str, object] = {"model": model, "dtype": "bfloat16", "places": max(self.load.clients)}
        return own | ({"quantize": rival.weights} if rival.weights.startswith("int") else {})

    @contextmanager
    def _started(self, rival: Rival) -> Iterator[tuple[Asks, int]]:
        log = self.folder / f"{rival.name.replace(' ', '-')}.log"
        most = max(self.load.clients)
        threads = choose_threads(Settings())
        if rival.peer == OURS:
            with servers.own_service(self._own_settings(rival)) as (url, pid):
                yield HttpServer(url), pid
            return
        programs, read = tools() / rival.peer / "bin", str(self._weights(rival))
        if rival.peer == "openvino":
            told = {"model": read, "threads": threads, "places": most}
            with servers.pipeline([str(programs / "python"), str(_PEER)], told, log) as (server, pid):
                yield server, pid
            return
        port = free_port()
        command, path, more = _COMMANDS[rival.peer](programs, read, most, threads)
        command += ["--host", "127.0.0.1", "--port", str(port)]
        with servers.serve(command, port, path, log, more) as pid:
            yield HttpServer(f"http://127.0.0.1:{port}"), pid


Command = tuple[list[str], str, dict[str, str]]


def _llama(programs: Path, read: str, most: int, threads: int) -> Command:
    sizes = ["--parallel", str(most), "--ctx-size", str(most * _PLACE), "--threads", str(threads)]
    return [str(llama_server(programs.parent)), "--model", read, *sizes], "/health", {}


def _vllm(programs: Path, read: str, most: int, threads: int) -> Command:
    cache = str(tools() / "vllm-cache")
    sizes = ["--dtype", "bfloat16", "--max-model-len", str(_PLACE * 2), "--max-num-seqs", str(most)]
    more = {"VLLM_CACHE_ROOT": cache, "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor", "OMP_NUM_THREADS": str(threads)}
    more["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return [str(programs / "vllm"), "serve", read, *sizes], "/health", more


def _transformers(programs: Path, read: str, _most: int, threads: int) -> Command:
    command = [str(programs / "transformers"), "serve", "--force-model", read, "--device", "cpu", "--dtype", "bfloat16"]
    return command, "/v1/models", {"OMP_NUM_THREADS": str(threads)}


_COMMANDS: dict[str, Callable[[Path, str, int, int], Command]] = {
    "llama.cpp": _llama,
    "vllm": _vllm,
    "transformers": _transformers,
}
