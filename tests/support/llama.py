"""A real `llama-server` for tests, where there is one, and the engine before it."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from gateway_hf.loading import builtin
from gateway_llamacpp import Settings, build
from tests.support.service import free_port
from tests.support.tiny_gguf import make_tiny_gguf
from tests.support.tiny_models import make_tiny

# The program, where it is not on the PATH; and flags that this machine needs, as `--no-repack` where AMX fails.
PROGRAM = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
FLAGS = tuple(os.environ.get("LLAMA_FLAGS", "").split())
_START_SECONDS = 120

needs_llama = pytest.mark.skipif(
    PROGRAM is None,
    reason="there is no llama-server: put one on the PATH, or its path into LLAMA_SERVER (plugins/llamacpp/README.md)",
)
# It opens a thought, and shuts it at once where the model is not to think.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n"
    "{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n"
    "{% if enable_thinking is defined and not enable_thinking %}\n</think>\n\n{% endif %}{% endif %}"
)


def make_llama(**settings):
    """Make an engine before the program, with the built-in model."""
    return build(Settings(binary=PROGRAM, flags=FLAGS, **settings))


def tiny_file(folder: Path, template: str, context: int) -> str:
    """Write the file of a tiny model of random weights, with a chat template and room for so many tokens."""
    made = make_tiny("llama", folder / "model")
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps(config | {"max_position_embeddings": context}))
    (made / "chat_template.jinja").write_text(template)
    return str(make_tiny_gguf(made, folder / "tiny.gguf"))


@contextmanager
def llama_server(folder: Path, places: int, context: int, model: str | None = None) -> Iterator[str]:
    """Run the program with so many places of `context` tokens, before the built-in model; yield its versioned URL."""
    port, log = free_port(), folder / "log"
    sizes = ["--ctx-size", str(places * context), "--parallel", str(places), "--threads", "1"]
    own = ["--model", model or str(builtin.locate()), "--host", "127.0.0.1", "--port", str(port)]
    flags = ["--no-warmup", "--jinja", *FLAGS]
    with (
        log.open("wb") as output,
        subprocess.Popen([str(PROGRAM), *own, *sizes, *flags], stdout=output, stderr=output) as it,
    ):
        try:
            until = time.monotonic() + _START_SECONDS
            while not _is_up(f"http://127.0.0.1:{port}/health"):
                if it.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"llama-server does not come up:\n{log.read_text(errors='replace')[-3000:]}")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            it.terminate()


def _is_up(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
