"""A `llama-server` for tests, where there is one, and the engine before it."""

import os
import shutil

import pytest

from gateway_llamacpp import Settings, build

# The program, where it is not on the PATH; and flags that this machine needs, as `--no-repack` where AMX fails.
PROGRAM = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
FLAGS = tuple(os.environ.get("LLAMA_FLAGS", "").split())

needs_llama = pytest.mark.skipif(
    PROGRAM is None,
    reason="there is no llama-server: put one on the PATH, or its path into LLAMA_SERVER (plugins/llamacpp/README.md)",
)


def make_llama(**settings):
    """Make an engine before the program, with the built-in model."""
    return build(Settings(binary=PROGRAM, flags=FLAGS, **settings))
