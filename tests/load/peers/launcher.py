"""Installs each server, writes the weights that it reads, and starts it."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import psutil
from msgspec import Struct

from gateway_hf.compute.placement import choose_threads
from gateway_hf.settings import Settings
from tests.load.peers import servers, weights
from tests.load.peers.servers import HttpServer, NotStarted, RunningServer
from tests.load.peers.table import BUILTIN, CLASSES, ENVIRONMENTS, OURS, Rival, llama_server
from tests.support.service import free_port

# Tokens of a place: random words have some 150, chats at most 250, and answers are short.
_PLACE = 512
_PEER = Path(__file__).with_name("openvino_peer.py")
# What a server takes beside its weights: libraries, caches of keys and values, what it computes in.
_BESIDE = 2**30


def tools() -> Path:
    """Return the user's folder for environments and weights, which stay for the next time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "llm-gateway-tools" / "peers"


class Launcher(Struct):
    """Starts servers with a model's weights, each with room for `most` clients; their logs are written to `folder`."""

    model: str
    most: int
    folder: Path

    @property
    def threads(self) -> int:
        """Return the number of threads that each server computes in."""
        return choose_threads(Settings())

    def prepare(self, rival: Rival) -> None:
        """Install a server and write its weights; raise `NotInstalled`. This is no part of its start."""
        if rival.peer == OURS:
            return
        ENVIRONMENTS[rival.peer].install(tools() / rival.peer)
        self._weights(rival)

    def start(self, rival: Rival) -> AbstractContextManager[RunningServer]:
        """Start a server, in a context that is entered when it is ready and ends it; raise `NotStarted`."""
        if rival.alone:
            return servers.own_engine(self._own_settings(rival))
        if rival.peer == OURS:
            return servers.own_service(self._own_settings(rival))
        return self._started(rival)

    def crowding(self, rivals: list[Rival]) -> str:
        """Say why servers of one class cannot all be up at once: they may want more memory than is free; `""` if not.

        Each may want twice its weights, which some have in another form too while they start.
        """
        folder = weights.folder_of(self.model, tools() / "models")
        held = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        wanted = sum(2 * (held >> CLASSES.index(rival.precision)) + _BESIDE for rival in rivals)
        free = psutil.virtual_memory().available
        if len(rivals) < 2 or wanted <= free:
            return ""
        return f"{free / 2**30:.1f} GiB of memory are free, and {len(rivals)} servers may want {wanted / 2**30:.1f}"

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
        own: dict[str, object] = {"model": model, "dtype": "bfloat16", "places": self.most}
        few: dict[str, object] = {"quantize": rival.weights, "kv_dtype": "int8"}
        return own | few if rival.weights.startswith("int") else own

    @contextmanager
    def _started(self, rival: Rival) -> Iterator[RunningServer]:
        log = self.folder / f"{rival.name.replace(' ', '-')}.log"
        programs, read = tools() / rival.peer / "bin", str(self._weights(rival))
        if rival.peer == "openvino":
            told = {"model": read, "threads": self.threads, "places": self.most}
            with servers.pipeline([str(programs / "python"), str(_PEER)], told, log) as running:
                yield running
            return
        port = free_port()
        command, path, more = _COMMANDS[rival.peer](programs, read, self.most, self.threads)
        command += ["--host", "127.0.0.1", "--port", str(port)]
        with ExitStack() as stack:
            try:
                pid = stack.enter_context(servers.serve(command, port, path, log, more))
            except NotStarted as error:
                if rival.peer != "llama.cpp" or f"ended with {-signal.SIGILL}:" not in str(error):
                    raise
                # With weights of few bits it uses tile registers that a system may not allow it.
                pid = stack.enter_context(servers.serve([*command, "--no-repack"], port, path, log, more))
            yield RunningServer(HttpServer(f"http://127.0.0.1:{port}"), pid, lambda: servers.last_words(log))


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
