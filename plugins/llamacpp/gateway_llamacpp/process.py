"""The `llama-server` of one engine: started on a Unix socket of its own, heard, and ended for sure."""

import asyncio
import contextlib
import ctypes
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

from gateway.engine import LoadFailed, write_own
from gateway_llamacpp.settings import Settings

_log = logging.getLogger("gateway_llamacpp")

_PR_SET_PDEATHSIG = 1
_LONGEST_SOCKET = 107
_LEAVE_SECONDS = 5.0
_LAST_LINES = 40
_LINE_BYTES = 1 << 16
# What this engine says itself; said twice, its requests would go astray.
_OWN = (
    "-m --model --host --port --api-key --api-key-file -np --parallel -c --ctx-size -kvu --kv-unified "
    "-cram --cache-ram --prefill-assistant --embedding --embeddings --rerank --reranking "
    "--api-prefix --ssl-key-file --ssl-cert-file"
)


class LlamaServer:
    """A running `llama-server`. `socket` is in a folder that only this user can enter, and `key` opens it.

    The key is in a file beside it, and so in no list of processes.
    """

    def __init__(self, process: asyncio.subprocess.Process, folder: str, key: str) -> None:
        self._process = process
        self._folder = folder
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._hearing = asyncio.create_task(self._hear())
        self.key = key
        self.socket = _socket(folder)
        self.pid = process.pid

    @classmethod
    async def start(cls, program: str, model: Path, settings: Settings, context: int) -> "LlamaServer":
        """Start it for places of `context` tokens each; raise `LoadFailed` where it cannot be started."""
        folder, key = tempfile.mkdtemp(prefix="llama-"), secrets.token_hex(32)
        try:
            arguments = arguments_of(settings, model, context, _socket(folder))
            key_file = Path(folder, "key")
            write_own(key_file, key.encode())
            process = await asyncio.create_subprocess_exec(
                program,
                *arguments,
                "--api-key-file",
                str(key_file),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=_LINE_BYTES,
                preexec_fn=_tie(),
            )
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise LoadFailed(f"{program} cannot be started: {error.strerror}") from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls(process, folder, key)

    async def ended(self) -> str:
        """Wait for its end, and say how it ended."""
        status = await self._process.wait()
        await asyncio.wait({self._hearing}, timeout=1)
        return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"

    def last_words(self) -> str:
        """Return its last line that tells of an error, or its last line."""
        lines = [line for line in self._lines if line]
        errors = [line for line in lines if " E " in line or "error" in line.lower()]
        return (errors or lines or [""])[-1][:300]

    async def end(self) -> None:
        """End it within its time, and remove its folder; again is no error."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                pass
            finally:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
        self._hearing.cancel()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _hear(self) -> None:
        output = self._process.stdout
        while output is not None:
            try:
                line = await output.readline()
            except ValueError:  # longer than the limit, and dropped
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip().replace(self.key, "[key]")
            self._lines.append(text)
            _log.debug("llama-server: %s", text)


def arguments_of(settings: Settings, model: Path, context: int, socket: str) -> list[str]:
    """Return the command line; raise `LoadFailed` for a flag that is this engine's own affair."""
    for flag in settings.flags:
        if flag.partition("=")[0] in _OWN.split():
            raise LoadFailed(f"the setting `flags` holds {flag.partition('=')[0]}, which this engine says itself")
    asked: dict[str, object] = {
        "--model": model,
        "--host": socket,
        "--parallel": settings.places,
        "--ctx-size": context * settings.places,
        # PlaceTable of their own: what one caller said is never in the cache of another's.
        "--cache-ram": 0,
        "--threads": settings.threads or len(os.sched_getaffinity(0)),
        # A stream holds a thread of the server's for as long as it runs.
        "--threads-http": settings.places + 8,
        "--batch-size": settings.step_tokens,
        "--ubatch-size": min(settings.step_tokens, 512),
        "--cache-type-k": settings.cache_type_k,
        "--cache-type-v": settings.cache_type_v,
        "--gpu-layers": settings.gpu_layers,
        "--log-colors": "off",
        # Its warnings and errors, and all that it says only where that is read.
        "--log-verbosity": 3 if _log.isEnabledFor(logging.DEBUG) else 2,
    }
    words = [str(word) for pair in asked.items() for word in pair]
    return [*words, "--no-kv-unified", "--no-ui", "--no-prefill-assistant", "--metrics", *settings.flags]


def _socket(folder: str) -> str:
    path = str(Path(folder, "s.sock"))
    if len(path) > _LONGEST_SOCKET:
        raise LoadFailed(f"the folder for temporary files, {tempfile.gettempdir()}, has a path too long for a socket")
    return path


def _tie() -> Callable[[], None] | None:
    """Return what the child does before it becomes `llama-server`: ask to be killed when its parent ends."""
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return tie
